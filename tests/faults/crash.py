"""A disk that may lose what was not forced onto it: every state that a crash can leave behind.

A kill keeps the page cache, so that kills prove nothing about fsync. Here the file-system calls of
a block are recorded, with the tree after each of them, and every state is rebuilt that a power cut
at that moment may leave: data that was not fsynced is lost in whole or in half, names whose folder
was not fsynced since are each there or not, in any combination that is drawn. The two names of a
rename change together, as POSIX has it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any
from unittest.mock import patch

Inode = int
CALLS = ("fsync", "replace", "rename", "mkdir", "unlink", "remove", "rmdir")


@dataclass
class Tree:
    """Names of each folder and bytes of each file, by inode."""

    root: Inode
    names: dict[Inode, dict[str, Inode]] = field(default_factory=dict)
    data: dict[Inode, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> Tree:
        tree = cls(folder.stat().st_ino)
        tree._read(folder)
        return tree

    def _read(self, folder: Path) -> None:
        names = self.names[folder.stat().st_ino] = {}
        for entry in os.scandir(folder):
            names[entry.name] = entry.inode()
            if entry.is_dir(follow_symlinks=False):
                self._read(Path(entry.path))
            else:
                self.data[entry.inode()] = Path(entry.path).read_bytes()

    def write(self, folder: Path) -> None:
        """Put the tree onto the disk."""
        self._write(self.root, folder)

    def _write(self, inode: Inode, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, child in self.names.get(inode, {}).items():
            if child in self.names:
                self._write(child, folder / name)
            else:
                (folder / name).write_bytes(self.data.get(child, b""))


@dataclass(frozen=True)
class Change:
    """A name of a folder that is new (an inode) or gone (None) since the folder was fsynced."""

    folder: Inode
    name: str
    inode: Inode | None


Changes = tuple[Change, ...]
"""What one call changes: both names of a rename."""


@dataclass
class Disk:
    """What is certain to be there, and what happened since."""

    certain: Tree
    pending: list[Changes] = field(default_factory=list)
    unsynced: dict[Inode, bytes] = field(default_factory=dict)

    def see(self, before: Tree, after: Tree, *, together: bool) -> None:
        """Note what changed between two looks at the live tree; ``together``: by one rename."""
        changes: list[Change] = []
        for folder in chain(after.names, set(before.names) - set(after.names)):
            old, new = before.names.get(folder, {}), after.names.get(folder, {})
            for name in old.keys() | new.keys():
                if old.get(name) != new.get(name):
                    changes.append(Change(folder, name, new.get(name)))
            if folder not in self.certain.names:
                self.certain.names[folder] = {}
        if together and changes:
            self.pending.append(tuple(changes))
        else:
            self.pending += [(change,) for change in changes]
        for inode, content in after.data.items():
            if before.data.get(inode) != content:
                self.unsynced[inode] = content

    def fsync(self, inode: Inode) -> None:
        """What belongs to the file or folder is certain now."""
        if inode in self.unsynced:
            self.certain.data[inode] = self.unsynced.pop(inode)
        for changes in [one for one in self.pending if any(c.folder == inode for c in one)]:
            _apply(self.certain, changes)
            self.pending.remove(changes)

    def states(self, draw: random.Random, n_drawn: int) -> Iterator[Tree]:
        """Trees that a crash now may leave."""
        n = len(self.pending)
        choices = [set[int](), set(range(n))]
        choices += [{one} for one in range(n)] + [set(range(n)) - {one} for one in range(n)]
        choices += [
            {i for i in range(n) if draw.random() < 0.5} for _ in range(n_drawn if n else 0)
        ]
        unique = {frozenset(choice) for choice in choices}
        for number, choice in enumerate(sorted(unique, key=sorted)):
            tree = deepcopy(self.certain)
            for at in sorted(choice):
                _apply(tree, self.pending[at])
            for inode, content in self.unsynced.items():
                tree.data[inode] = content[: (0, len(content) // 2, len(content))[number % 3]]
            yield tree


def _apply(tree: Tree, changes: Changes) -> None:
    for change in changes:
        names = tree.names.setdefault(change.folder, {})
        if change.inode is None:
            names.pop(change.name, None)
        else:
            names[change.name] = change.inode


@contextmanager
def recording(folder: Path, seen: list[tuple[str, list[Tree]]], n_drawn: int = 6) -> Iterator[None]:
    """Fill ``seen`` with each call of the block and the states that a crash right after leaves."""
    draw = random.Random(0)
    held: dict[Inode, int] = {}
    last = Tree.of(folder)
    _hold(folder, held)
    disk = Disk(deepcopy(last))
    real = {name: getattr(os, name) for name in CALLS}
    inside = [False]

    def look(what: str, forced: Inode | None = None) -> None:
        nonlocal last
        now = Tree.of(folder)
        _hold(folder, held)
        disk.see(last, now, together=what in ("replace", "rename"))
        last = now
        if forced is not None:
            disk.fsync(forced)
        seen.append((what, list(disk.states(draw, n_drawn))))

    def watched(name: str) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            if inside[0]:
                return real[name](*arguments, **more)
            inside[0] = True
            try:
                look(f"before {name}")  # whatever was written without a call that is watched
                result = real[name](*arguments, **more)
                forced = os.fstat(arguments[0]).st_ino if name == "fsync" else None
                look(name, forced)
                return result
            finally:
                inside[0] = False

        return call

    try:
        with patch.multiple(os, **{name: watched(name) for name in CALLS}):
            yield
    finally:
        for descriptor in held.values():
            os.close(descriptor)


def _hold(folder: Path, held: dict[Inode, int]) -> None:
    """Keep everything below open, so that no number of a removed inode is given out again."""
    for path in (folder, *folder.rglob("*")):
        inode = path.stat().st_ino
        if inode not in held:
            held[inode] = os.open(path, os.O_RDONLY)
