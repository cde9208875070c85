"""Old keys of a data set's entry: ShareGPT, the keys of turns, scripts."""

from __future__ import annotations

from typing import Any

from tunesmith.config.draft import Draft, dotted_path
from tunesmith.config.tree import Path


def upgrade_entry(draft: Draft, path: Path, entry: dict[str, Any]) -> None:
    """Turn the old keys of one entry into today's, in place, each with its notice or problem."""
    _sharegpt(draft, path, entry)
    _message_fields(draft, path, entry)
    for name in ("preprocess_shards", "trust_remote_code"):
        if name not in entry:
            continue
        value = draft.drop((*path, name))
        if name == "trust_remote_code" and value:
            draft.problem(
                "refused",
                (*path, name),
                "scripts of data sets are never run",
                "take it out; convert the data to parquet or json once",
            )
        elif value:
            draft.notice(
                (*path, name), f"{dotted_path((*path, name))} is left out: rows are prepared once"
            )


def _sharegpt(draft: Draft, path: Path, entry: dict[str, Any]) -> None:
    """``type: sharegpt`` as ``chat_template`` with ShareGPT's field and keys."""
    kind = entry.get("type")
    if not (isinstance(kind, str) and kind.split(".")[0].split(":")[0] == "sharegpt"):
        return
    place = draft.place((*path, "type"))
    draft.put((*path, "type"), "chat_template", place)
    if entry.get("field_messages") is None:
        draft.put((*path, "field_messages"), "conversations", place)
    mapped = entry.get("message_property_mappings")
    own_keys = entry.get("message_field_role") or entry.get("message_field_content")
    if mapped is None and not own_keys:
        mapping = {"role": "from", "content": "value"}
        draft.put((*path, "message_property_mappings"), mapping, place)
    if entry.get("conversation") is not None:
        style = draft.drop((*path, "conversation"))
        draft.notice(
            (*path, "conversation"),
            f"{dotted_path(path)}.conversation: {style} is left out: "
            "`chat_template` sets the style",
        )
    draft.notice(
        (*path, "type"),
        f"{dotted_path(path)}.type: {kind} is read as `chat_template` with "
        "`field_messages: conversations` and the keys `from` and `value`",
    )


def _message_fields(draft: Draft, path: Path, entry: dict[str, Any]) -> None:
    """``message_field_role`` and ``message_field_content`` in ``message_property_mappings``."""
    for part in ("role", "content"):
        old = f"message_field_{part}"
        if old not in entry:
            continue
        value = draft.drop((*path, old))
        if value is None:
            continue
        mapping = entry.get("message_property_mappings") or {}
        if not isinstance(mapping, dict):
            continue
        if mapping.get(part) not in (None, value):
            draft.problem(
                "conflict",
                (*path, old),
                f"contradicts `message_property_mappings: {{{part}: {mapping[part]}}}`",
                "keep the mapping",
            )
            continue
        place = draft.place((*path, old))
        draft.put((*path, "message_property_mappings"), {**mapping, part: value}, place)
        draft.notice(
            (*path, old),
            f"{dotted_path((*path, old))} is read as `message_property_mappings: "
            f"{{{part}: {value}}}`",
        )
