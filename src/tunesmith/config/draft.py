"""``Draft``: a config on its way from text to sections, with its places, notices and problems."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tunesmith.config.paths import Path, PathTable, value_at
from tunesmith.config.tree import Place
from tunesmith.errors import Edit, Problem

_POSITION = re.compile("[0-9]{1,6}")


def dotted_path(path: Sequence[str | int]) -> str:
    """The path as users write it: ``datasets.0.path``."""
    return ".".join(str(part) for part in path)


def path_of(key: str) -> Path:
    """The path that users write as ``datasets.0.path``."""
    return tuple(int(part) if _POSITION.fullmatch(part) else part for part in key.split("."))


def flat_of(path: Sequence[str | int]) -> str:
    """The path with its positions in lists left open: ``datasets[].path``."""
    parts = ("[]" if isinstance(part, int) else part for part in path)
    return ".".join(parts).replace(".[]", "[]")


def put_at(problem: Problem, place: Place) -> Problem:
    """The problem with a place's file, line and column."""
    return replace(problem, file=place.source, line=place.line, column=place.column)


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What stands for an old key today: the keys of ``new``, with their values, in the place of
    ``old`` and its ``value``; nothing where it only goes out. ``said`` is the notice.
    """

    old: Path
    value: Any
    new: Mapping[Path, Any]
    said: str


@dataclass(frozen=True, slots=True)
class Switched:
    """A capability that something other than its own keys asks for, and where that stood."""

    capability: str
    path: Path
    place: Place


@dataclass(frozen=True, slots=True)
class Idle:
    """A key that asks for something and does nothing: where it stood, and the notice of it."""

    path: Path
    place: Place
    text: str


@dataclass(slots=True)
class Draft:
    """Plain values that are being read. Steps change it in place, and say what they did.

    ``source`` names where values come from that have no place of their own. ``idle`` holds the keys
    that do nothing (they become notices, or problems). ``rewrites`` holds what
    became of old keys, in order, ``switched`` what plugins ask for. ``removed`` holds the keys that
    were taken out because something is wrong with them, ``silenced`` those that other rules would
    judge because of what is not built. ``meant`` holds where the values of misspelt keys were to
    go: nothing is missing there. ``damaged`` holds the blocks and entries that lost a key because
    it was wrong: what is left of them says little. ``data_only``: nothing will be trained, so that
    rows of objectives that are not built can be looked at.
    """

    values: dict[str, Any]
    places: PathTable[Place]
    source: str
    old_booleans: PathTable[bool] = field(default_factory=PathTable)
    notices: list[tuple[int, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    deferred: list[str] = field(default_factory=list)
    idle: list[Idle] = field(default_factory=list)
    rewrites: list[Rewrite] = field(default_factory=list)
    switched: list[Switched] = field(default_factory=list)
    removed: set[str] = field(default_factory=set)
    meant: set[Path] = field(default_factory=set)
    damaged: set[Path] = field(default_factory=set)
    silenced: set[str] = field(default_factory=set)
    data_only: bool = False

    def place(self, path: Path) -> Place:
        """The place of a value, or of the nearest block around it that has one."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return Place(self.source) if path else self.places.get((), Place(self.source))

    def problem(
        self, code: str, path: Path, message: str, fix: str = "", edit: Edit | None = None
    ) -> None:
        """Note that something is wrong with the value at ``path``."""
        problem = Problem(code, message, fix, key=dotted_path(path), edit=edit or {})
        self.problems.append(self.placed(problem, path))

    def placed(self, problem: Problem, path: Path) -> Problem:
        """The problem with file, line and column of the value at ``path``."""
        return put_at(replace(problem, key=problem.key or dotted_path(path)), self.place(path))

    def notice(self, path: Path, text: str) -> None:
        """Note what was done with the value at ``path``, so that the user hears of it."""
        place = self.place(path)
        self.notices.append((place.line or 0, f"{place}: {text}"))

    def left_out(self, path: Path, text: str) -> None:
        """Note that the value at ``path`` asks for something and does nothing."""
        self.idle.append(Idle(path, self.place(path), text))

    def get(self, path: Path) -> Any:
        """The value at a path, or None where there is nothing."""
        return value_at(self.values, path)

    def put(self, path: Path, value: Any, place: Place) -> None:
        """Set a value in a block that exists, as if it had been written at ``place``."""
        parent = self.get(path[:-1])
        if isinstance(parent, list):
            parent[int(path[-1])] = value
        else:
            parent[str(path[-1])] = value
        self.places.take(path)
        self.old_booleans.take(path)
        self.places[path] = place

    def drop(self, path: Path) -> Any:
        """Take the value at ``path`` out of its block and return it. A key's place is still known,
        items of a list move up.
        """
        parent = self.get(path[:-1])
        if isinstance(parent, list):
            for table in (self.places, self.old_booleans):
                table.move_up(path[:-1], int(path[-1]))
            return parent.pop(int(path[-1]))
        return parent.pop(str(path[-1]), None) if isinstance(parent, dict) else None

    def replace(self, old: Path, new: Mapping[Path, Any], text: str) -> None:
        """Put today's keys in the place of an old one, and say so: the notice ``text`` stands at
        the old key, and the rewrite is remembered. Blocks that ``new`` needs are opened.
        """
        place, value = self.place(old), self.get(old)
        inside, words = self.places.below(old), self.old_booleans.below(old)
        inside.pop((), None)  # the old key's own place, which each new key gets
        # Copied together: what only moves is one object in both, and no later step changes them.
        then, now = copy.deepcopy((value, dict(new)))
        self.rewrites.append(Rewrite(old, then, now, f"{place}: {text}"))
        if new:
            self.notices.append((place.line or 0, f"{place}: {text}"))
        else:
            self.left_out(old, text)
        if old not in new:
            self.drop(old)
        for path, wanted in new.items():
            for end in range(1, len(path)):
                if self.get(path[:end]) is None:
                    self.put(path[:end], {}, place)
            self.put(path, wanted, place)
            root = _root_of(value, path, wanted)
            if root:
                self.places.graft(root, inside)
                self.old_booleans.graft(root, words)

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


def _root_of(value: Any, path: Path, wanted: Any) -> Path:
    """Where a moved block lies in what was put at ``path``: there, or as an item of a list there;
    () where it was not moved.
    """
    if wanted is value:
        return path
    if not isinstance(value, dict | list):
        return ()
    items = wanted if isinstance(wanted, list) else []
    return next(((*path, i) for i, item in enumerate(items) if item is value), ())
