"""What a finished folder says of itself: the size and hash of each of its files, written last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.data.store import hash_file, hash_json

LAYOUT = 2
"""The version of the layout of everything prepared; part of each key."""

PREPARED, SET, SHARD = "prepared.json", "set.json", "shard.json"
"""The file that makes a folder whole: of prepared data, of one data set, of a shard of it."""


def write_facts(folder: Path, name: str, facts: Mapping[str, Any]) -> None:
    """Write ``folder/name``: the folder is complete. ``facts`` are kept in it as they are."""
    files = {
        path.name: [path.stat().st_size, hash_file(path)]
        for path in sorted(folder.iterdir())
        if path.is_file()
    }
    said = {"layout": LAYOUT, "files": files, **facts}
    text = json.dumps({"digest": hash_json(said), **said}, indent=1)
    (folder / name).write_text(text, encoding="utf-8")


def read_facts(folder: Path, name: str) -> dict[str, Any] | None:
    """What ``folder/name`` says, or None where the folder is missing, incomplete or older.

    Of the other files the sizes are compared; for their bytes see ``damaged``.
    """
    try:
        facts: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
        whole = facts.pop("digest") == hash_json(facts) and all(
            (folder / file).stat().st_size == size for file, (size, _) in facts["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return facts if whole and facts.get("layout") == LAYOUT else None


def damaged(folder: Path, name: str) -> list[Path]:
    """The files of a finished folder whose bytes are not the ones that were written."""
    facts = read_facts(folder, name)
    if facts is None:
        return [folder / name]
    return [
        folder / file
        for file, (_, digest) in facts["files"].items()
        if hash_file(folder / file) != digest
    ]
