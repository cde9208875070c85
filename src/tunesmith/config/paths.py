"""``PathTable``: what is known of places in a tree, found by path and by the block around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, TypeVar

Path = tuple[str | int, ...]
"""Where a value lies: mapping keys and list positions."""

Value = TypeVar("Value")


def value_at(values: Any, path: Path) -> Any:
    """The value at a path of a tree, or None where there is nothing."""
    for part in path:
        if isinstance(values, dict):
            values = values.get(str(part))
        elif isinstance(values, list) and isinstance(part, int) and part < len(values):
            values = values[part]
        else:
            return None
    return values


class PathTable(MutableMapping[Path, Value]):
    """Path -> value, in the order of insertion. What lies below a path is found without a look at
    the rest, so that a config of thousands of entries is changed in time that grows with it.
    """

    def __init__(self, given: Mapping[Path, Value] | None = None) -> None:
        self._values: dict[Path, Value] = {}
        self._inside: dict[Path, dict[str | int, None]] = {}
        self.update(given or {})

    def __getitem__(self, path: Path) -> Value:
        return self._values[path]

    def __contains__(self, path: object) -> bool:
        return path in self._values

    def __setitem__(self, path: Path, value: Value) -> None:
        if path not in self._values:
            for end in range(len(path) - 1, -1, -1):
                inside = self._inside.setdefault(path[:end], {})
                if path[end] in inside:
                    break
                inside[path[end]] = None
        self._values[path] = value

    def __delitem__(self, path: Path) -> None:
        del self._values[path]

    def __iter__(self) -> Iterator[Path]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def below(self, path: Path) -> dict[Path, Value]:
        """What lies at the path and below it, by the rest of its path (``()`` for the path itself);
        what lies nearer comes first.
        """
        found: dict[Path, Value] = {(): self._values[path]} if path in self._values else {}
        rests: list[Path] = [()]
        for rest in rests:
            for part in self._inside.get((*path, *rest), ()):
                inner = (*rest, part)
                rests.append(inner)
                if (*path, *inner) in self._values:
                    found[inner] = self._values[*path, *inner]
        return found

    def take(self, path: Path) -> dict[Path, Value]:
        """What ``below`` returns, taken out of the table."""
        found = self.below(path)
        for rest in found:
            del self._values[*path, *rest]
        rests: list[Path] = [()]
        for rest in rests:
            rests += [(*rest, part) for part in self._inside.pop((*path, *rest), ())]
        if path:
            self._inside.get(path[:-1], {}).pop(path[-1], None)
        return found

    def graft(self, path: Path, found: Mapping[Path, Value]) -> None:
        """Put what ``below`` or ``take`` returned at another path."""
        for rest, value in found.items():
            self[*path, *rest] = value

    def move_up(self, items: Path, number: int) -> None:
        """Take out what lies at item ``number`` of the list ``items``; those behind it move up."""
        self.take((*items, number))
        following = number + 1
        while following in self._inside.get(items, ()):
            self.graft((*items, following - 1), self.take((*items, following)))
            following += 1
