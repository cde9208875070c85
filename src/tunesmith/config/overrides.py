"""Overrides: single keys that a command line or a caller sets over the file's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.config.draft import Draft, dotted_path, path_of
from tunesmith.config.flat import leaves
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
    """Set each override in the draft, later ones last; what does not fit becomes a problem."""
    for override in overrides:
        path = path_of(override.key)
        if _open(draft, path, override):
            place = Place(override.source)
            draft.put(path, override.value, place)
            if isinstance(override.value, str):
                _remember_old_boolean(draft, path, override.value)


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
            following = block[part]
        elif isinstance(block, dict):
            following = block.get(str(part))
            if not last and following is None:
                following = block[str(part)] = [] if _is_list(path[: depth + 1]) else {}
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
