"""Applies the edit of a problem to the config that has it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from tunesmith.errors import REMOVE, Edit


def edited(values: Mapping[str, Any], edit: Edit) -> dict[str, Any]:
    """The config after the edit: dotted keys open the blocks that they need, items of a list that
    are removed go out last, so that the numbers of the others hold.
    """
    changed: dict[str, Any] = copy.deepcopy(dict(values))
    for key, value in sorted(edit.items(), key=lambda item: _parts(item[0]), reverse=True):
        *around, last = _parts(key)
        block: Any = changed
        for _, part in around:
            block = block[int(part)] if isinstance(block, list) else block.setdefault(part, {})
        where: Any = int(last[1]) if isinstance(block, list) else last[1]
        if value is not REMOVE:
            block[where] = value
        elif isinstance(block, list) or where in block:
            del block[where]
    return changed


def _parts(key: str) -> list[tuple[int, str]]:
    """The parts of a dotted key, each with its number where it is one (numbers sort as such)."""
    return [(int(part) if part.isdigit() else -1, part) for part in key.split(".")]
