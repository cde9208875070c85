"""Overrides: single keys that a command line or a caller sets over the file's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.config.draft import Draft, dotted_path, path_of
from tunesmith.config.flat import leaves
from tunesmith.config.legacy import other_spellings
from tunesmith.config.legacy_data import ENTRY_LISTS, number_entries
from tunesmith.config.tree import Path, Place, read_tree, scalar

COMMAND_LINE = "command line"
CALL = "python"


@dataclass(frozen=True, slots=True)
class Override:
    """One key, dotted (``datasets.0.path``), and its plain value; ``source`` says who set it."""

    key: str
    value: Any
    source: str = COMMAND_LINE


def parse_value(text: str) -> Any:
    """The value of a word on the command line: a YAML scalar, or a list or mapping in brackets."""
    if text[:1] in ("[", "{"):
        tree = read_tree(text, COMMAND_LINE)
        return text if tree.problems else tree.values
    return scalar(text)


def as_overrides(given: Sequence[Override] | Mapping[str, Any]) -> list[Override]:
    """The overrides as a list; a mapping's are said to come from the caller."""
    if isinstance(given, Mapping):
        return [Override(str(name), value, CALL) for name, value in given.items()]
    return list(given)


def apply_overrides(draft: Draft, overrides: Sequence[Override]) -> None:
    """Set each override in the draft, later ones last; what does not fit becomes a problem.

    An override wins over the file's value of the same key in any of its spellings, old or new.
    """
    for override in overrides:
        path = path_of(override.key)
        if len(path) > 1 and path[0] in ENTRY_LISTS:
            number_entries(draft)
        if _open(draft, path, override):
            for rival in rivals(path, override.value):
                draft.drop(rival)
            place = Place(override.source)
            draft.put(path, override.value, place)
            if isinstance(override.value, str):
                _remember_old_boolean(draft, path, override.value)


def rivals(path: Path, value: Any) -> list[Path]:
    """The other places that say the same as a key: a config means one of them.

    A switch that is off says nothing about the others: ``flash_attention: false`` leaves
    ``attn_implementation`` as it is.
    """
    *around, name = path
    if len(path) == 1:
        return _top_rivals(str(name), value)
    if around == ["bnb_config_kwargs"]:
        return [(name,)] if name in other_spellings() else []
    inside = tuple(part for part in path if not isinstance(part, int))
    for spellings in _OF_ENTRIES:
        if path[0] in ENTRY_LISTS and inside[1:] in spellings:
            return [(*path[:2], *other) for other in spellings if other != inside[1:]]
    return []


# Of an entry: one key in its old and its new spelling.
_OF_ENTRIES: tuple[tuple[Path, ...], ...] = (
    (("split",), ("train_on_split",)),
    (("message_property_mappings", "role"), ("message_field_role",)),
    (("message_property_mappings", "content"), ("message_field_content",)),
)


def _top_rivals(name: str, value: Any) -> list[Path]:
    said, today = other_spellings().get(name, (f"`{name}`", name))
    if today == "bnb_config_kwargs" and name != today:
        return [(today, name)]
    if not value and said != f"`{today}`":
        return []
    same = [today, *(old for old, (_, new) in other_spellings().items() if new == today)]
    return [(other,) for other in same if other != name]


def _open(draft: Draft, path: Path, override: Override) -> bool:
    """Make the blocks around a path exist. False, with a problem, where that cannot be."""
    block: Any = draft.values
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(block, list):
            if not isinstance(part, int) or part > len(block):
                _misfit(draft, path[:depth], override, f"it has {len(block)} entries, from 0 on")
                return False
            if part == len(block):
                block.append({})
                draft.places[path[: depth + 1]] = Place(override.source)
            following = block[part]
        elif isinstance(block, dict):
            following = block.get(str(part))
            if not last and following is None:
                following = block[str(part)] = [] if _is_list(path[: depth + 1]) else {}
                draft.places[path[: depth + 1]] = Place(override.source)
        else:
            _misfit(draft, path[:depth], override, "it is a single value")
            return False
        block = following
    return True


def _is_list(path: Path) -> bool:
    leaf = leaves().get(".".join(str(part) for part in path))
    return leaf is not None and leaf.listed


def _misfit(draft: Draft, path: Path, override: Override, why: str) -> None:
    outer = dotted_path(path)
    draft.places.setdefault(path_of(override.key), Place(override.source))
    draft.problem(
        "unknown-key",
        path_of(override.key),
        f"`{outer}` has no `{override.key[len(outer) + 1 :]}`: {why}",
        f"set `{outer}` as a whole, or correct the key",
    )


def _remember_old_boolean(draft: Draft, path: Path, text: str) -> None:
    word = text.lower()
    if word in ("yes", "on", "no", "off"):
        draft.old_booleans[path] = word in ("yes", "on")
