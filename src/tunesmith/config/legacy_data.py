"""Old shapes of the data sets: ShareGPT, the keys of turns, scripts, one entry for a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.config.draft import Draft, dotted_path
from tunesmith.config.tree import Path

SINCE = "since 2026-11"
"""When a notice began to ask for the new spelling; what is renamed later has a date of its own."""

SINGULAR = ("dataset", "test_dataset")
"""Top-level keys that lack their plural."""

ENTRY_LISTS = ("datasets", "test_datasets")
"""Top-level keys whose value is a list of data set entries."""

ENTRY_KEYS: Mapping[str, tuple[str, str, str]] = {
    "message_field_role": (
        "read another way",
        "`message_property_mappings: {role: ...}`",
        "message_property_mappings",
    ),
    "message_field_content": (
        "read another way",
        "`message_property_mappings: {content: ...}`",
        "message_property_mappings",
    ),
    "train_on_split": ("read another way", "`split`", "split"),
    "preprocess_shards": ("left out", "rows are prepared once", ""),
    "trust_remote_code": ("refused", "scripts of data sets are never run: take it out", ""),
}
"""Old key of an entry -> (its state, what that means, the key that stands for it)."""

# Loader of `type: sharegpt.LOADER` -> field of the turns, key of the role, key of the text, and
# names of roles that are not everybody's.
_SHAREGPT_LOADERS: Mapping[str, tuple[str, str, str, Mapping[str, list[str]]]] = {
    "": ("conversations", "from", "value", {}),
    "load": ("conversations", "from", "value", {}),
    "load_multirole": ("conversations", "from", "value", {}),
    "load_role": ("conversations", "role", "value", {}),
    "load_ultrachat": ("messages", "role", "content", {}),
    "load_guanaco": (
        "conversations",
        "role",
        "text",
        {"user": ["prompter"], "assistant": ["assistant"]},
    ),
}

# Style of an old `conversation:` -> the chat template that writes the same turns.
_STYLES: Mapping[str, str] = {
    "chatml": "chatml",
    "llama3": "llama3",
    "llama-3": "llama3",
    "gemma": "gemma",
    "mistral": "mistral_v1",
    "phi_3": "phi_3",
    "phi-3": "phi_3",
}


def upgrade_data(draft: Draft) -> None:
    """Turn old shapes and keys of the data sets into today's, in place, each with its notice."""
    number_entries(draft)
    for path, entry in draft.entries():
        _split_name(draft, path, entry)
        _sharegpt(draft, path, entry)
        _message_fields(draft, path, entry)
        _without_effect(draft, path, entry)


def number_entries(draft: Draft) -> None:
    """Turn one entry, a path and the singular into lists, so that entries have numbers."""
    _singular(draft)
    for name in ENTRY_LISTS:
        _as_list(draft, name)


def _singular(draft: Draft) -> None:
    """``dataset:`` for ``datasets:``, and the same of the held-out ones."""
    for old in SINGULAR:
        new, value = f"{old}s", draft.values.get(old)
        if not value or draft.values.get(new):
            continue
        draft.replace((old,), {(new,): value}, f"{old} is called `{new}` now ({SINCE})")


def _as_list(draft: Draft, name: str) -> None:
    """One entry in the place of a list, and a path in the place of an entry."""
    value = draft.values.get(name)
    if isinstance(value, dict):
        text = f"{name} is read as a list of one entry ({SINCE})"
        draft.replace((name,), {(name,): [value]}, text)
    elif isinstance(value, str):
        text = f"{name}: {value} is read as `{name}: [{{path: {value}}}]` ({SINCE})"
        draft.replace((name,), {(name,): [{"path": value}]}, text)
    listed = draft.values.get(name)
    for number, item in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(item, str):
            path: Path = (name, number)
            text = f"{dotted_path(path)}: {item} is read as `path: {item}` ({SINCE})"
            draft.replace(path, {path: {"path": item}}, text)


def _split_name(draft: Draft, path: Path, entry: dict[str, Any]) -> None:
    """``train_on_split``, which was the name of ``split``."""
    old, new = (*path, "train_on_split"), (*path, "split")
    value = entry.get("train_on_split")
    if value is None or entry.get("split") not in (None, value):
        return
    draft.replace(old, {new: value}, f"{dotted_path(old)} is called `split` now ({SINCE})")


def _sharegpt(draft: Draft, path: Path, entry: dict[str, Any]) -> None:
    """``type: sharegpt`` as ``chat_template`` with ShareGPT's field and keys."""
    kind = entry.get("type")
    family, _, loader = str(kind).partition(":")[0].partition(".")
    if family not in ("sharegpt", "sharegpt_simple"):
        return
    if loader not in _SHAREGPT_LOADERS:
        draft.problem(
            "refused",
            (*path, "type"),
            f"`{kind}`: its rows were rewritten by code that is not here",
            "use `type: chat_template` with `field_messages` and `message_property_mappings`",
        )
        draft.drop((*path, "type"))
        return
    _conversation(draft, path, entry)
    _role_names(draft, path, entry)
    field, role, content, roles = _SHAREGPT_LOADERS[loader]
    new: dict[Path, Any] = {(*path, "type"): "chat_template"}
    if entry.get("field_messages") is None:
        new[*path, "field_messages"] = field
    own_keys = entry.get("message_field_role") or entry.get("message_field_content")
    if entry.get("message_property_mappings") is None and not own_keys:
        new[*path, "message_property_mappings"] = {"role": role, "content": content}
    if roles and entry.get("roles") is None:
        new[*path, "roles"] = dict(roles)
    text = (
        f"{dotted_path(path)}.type: {kind} is read as `chat_template` with "
        f"`field_messages: {field}` and the keys `{role}` and `{content}` ({SINCE})"
    )
    draft.replace((*path, "type"), new, text)


def _conversation(draft: Draft, path: Path, entry: dict[str, Any]) -> None:
    """The ``conversation`` style of ShareGPT entries as the entry's chat template."""
    style = entry.get("conversation")
    if style is None:
        draft.drop((*path, "conversation"))
        return
    old = (*path, "conversation")
    name = dotted_path(old)
    if entry.get("chat_template") or draft.values.get("chat_template"):
        text = f"{name}: {style} is left out: `chat_template` sets the style"
        draft.replace(old, {}, text)
    elif isinstance(style, str) and style in _STYLES:
        new = _STYLES[style]
        text = f"{name}: {style} is read as `chat_template: {new}` ({SINCE})"
        draft.replace(old, {(*path, "chat_template"): new}, text)
    else:
        draft.problem(
            "refused",
            old,
            f"there is no template for the style `{style}`",
            "take it out to use the tokenizer's own template, or set `chat_template`",
        )
        draft.drop(old)


def _role_names(draft: Draft, path: Path, entry: dict[str, Any]) -> None:
    """``field_human`` and ``field_model``, the names of the roles in ShareGPT's rows; ``field``."""
    for name, role in (("field_human", "user"), ("field_model", "assistant")):
        value = entry.get(name)
        if isinstance(value, str) and not isinstance(entry.get("roles"), dict | None):
            continue
        if isinstance(value, str):
            old = (*path, name)
            text = f"{dotted_path(old)} is read as `roles: {{{role}: [{value}]}}` ({SINCE})"
            draft.replace(old, {(*path, "roles", role): [value]}, text)
    field = entry.get("field")
    if isinstance(field, str) and entry.get("field_messages") is None:
        old = (*path, "field")
        text = f"{dotted_path(old)} is called `field_messages` in chat data ({SINCE})"
        draft.replace(old, {(*path, "field_messages"): field}, text)


def _message_fields(draft: Draft, path: Path, entry: dict[str, Any]) -> None:
    """``message_field_role`` and ``message_field_content`` in ``message_property_mappings``."""
    for part in ("role", "content"):
        old = (*path, f"message_field_{part}")
        value = entry.get(f"message_field_{part}")
        mapping = entry.get("message_property_mappings")
        if value is None or not isinstance(mapping, dict | None):
            draft.drop(old)
            continue
        if mapping and mapping.get(part) not in (None, value):
            draft.problem(
                "conflict",
                old,
                f"contradicts `message_property_mappings: {{{part}: {mapping[part]}}}`",
                "keep the mapping",
            )
            draft.drop(old)
            continue
        text = f"{dotted_path(old)} is read as `message_property_mappings: {{{part}: {value}}}`"
        draft.replace(old, {(*path, "message_property_mappings", part): value}, f"{text} ({SINCE})")


def _without_effect(draft: Draft, path: Path, entry: dict[str, Any]) -> None:
    """Keys of an entry that change nothing, and the one that would run code."""
    for name in ("preprocess_shards", "trust_remote_code"):
        old = (*path, name)
        if entry.get(name) and name == "trust_remote_code":
            draft.problem(
                "refused",
                old,
                "scripts of data sets are never run",
                "take it out; convert the data to parquet or json once",
            )
        elif entry.get(name):
            draft.replace(old, {}, f"{dotted_path(old)} is left out: rows are prepared once")
        draft.drop(old)
