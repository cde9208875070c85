"""``Draft``: a config on its way from text to sections, with its places, notices and problems."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith.config.tree import Path, Place
from tunesmith.errors import Problem


def dotted_path(path: Sequence[str | int]) -> str:
    """The path as users write it: ``datasets.0.path``."""
    return ".".join(str(part) for part in path)


@dataclass(slots=True)
class Draft:
    """Plain values that are being read. Steps change it in place, and say what they did.

    ``source`` names where values come from that have no place of their own. ``removed`` holds the
    keys that were taken out because something is wrong with them, ``silenced`` those that other
    rules would judge because of what is not built.
    """

    values: dict[str, Any]
    places: dict[Path, Place]
    source: str
    old_booleans: dict[Path, bool] = field(default_factory=dict)
    notices: list[tuple[int, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    deferred: list[str] = field(default_factory=list)
    removed: set[str] = field(default_factory=set)
    silenced: set[str] = field(default_factory=set)

    def place(self, path: Path) -> Place:
        """The place of a value, or of the nearest block around it that has one."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return Place(self.source)

    def problem(self, code: str, path: Path, message: str, fix: str = "") -> None:
        """Note that something is wrong with the value at ``path``."""
        key = dotted_path(path)
        self.problems.append(self.placed(Problem(code, message, fix, key=key), path))

    def placed(self, problem: Problem, path: Path) -> Problem:
        """The problem with file, line and column of the value at ``path``."""
        place = self.place(path)
        return Problem(
            problem.code,
            problem.message,
            problem.fix,
            key=problem.key or dotted_path(path),
            file=place.source,
            line=place.line,
            column=place.column,
        )

    def notice(self, path: Path, text: str) -> None:
        """Note what was done with the value at ``path``, so that the user hears of it."""
        place = self.place(path)
        self.notices.append((place.line or 0, f"{place}: {text}"))

    def get(self, path: Path) -> Any:
        """The value at a path, or None where there is nothing."""
        value: Any = self.values
        for part in path:
            if isinstance(value, dict):
                value = value.get(str(part))
            elif isinstance(value, list) and isinstance(part, int) and part < len(value):
                value = value[part]
            else:
                return None
        return value

    def put(self, path: Path, value: Any, place: Place) -> None:
        """Set a value in a block that exists, as if it had been written at ``place``."""
        parent = self.get(path[:-1])
        if isinstance(parent, list):
            parent[int(path[-1])] = value
        else:
            parent[str(path[-1])] = value
        for inside in [p for p in self.places if p[: len(path)] == path]:
            del self.places[inside]
        for inside in [p for p in self.old_booleans if p[: len(path)] == path]:
            del self.old_booleans[inside]
        self.places[path] = place

    def drop(self, path: Path) -> Any:
        """Take the value at ``path`` out of its block and return it. Its place is still known."""
        parent = self.get(path[:-1])
        return parent.pop(str(path[-1]), None) if isinstance(parent, dict) else None

    def rename(self, path: Path, new: str, value: Any) -> None:
        """Move a key of a block to ``new``, with ``value`` there and the old key's place."""
        place = self.place(path)
        self.drop(path)
        self.put((*path[:-1], new), value, place)

    def entries(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Every data set entry that is a mapping, training and held-out, with its path."""
        for name in ("datasets", "test_datasets"):
            listed = self.values.get(name)
            for number, entry in enumerate(listed if isinstance(listed, list) else []):
                if isinstance(entry, dict):
                    yield (name, number), entry
