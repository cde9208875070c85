"""``Registry``: a name becomes an object, imported on first use; a miss says the nearest name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache
from importlib import import_module

from tunesmith import catalog
from tunesmith.errors import ConfigError, TunesmithError


def plain(name: str) -> str:
    """The name without what people mix up: case, dashes, underscores, dots and blanks."""
    return "".join(letter for letter in name.lower() if letter not in "-_. ")


def distance(left: str, right: str, limit: int | None = None) -> int:
    """How many letters must be added, dropped, changed or swapped with their neighbour.

    The optimal string alignment distance: a swap counts 1, no letter is edited twice. Beyond
    ``limit`` the count stops, at some number that is larger.
    """
    before: list[int] = []
    last = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        row = [i]
        for j, b in enumerate(right, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
        if limit is not None and min(before) > limit and min(last) > limit:
            return limit + 1
    return last[-1]


_questions: ContextVar[Iterator[int] | None] = ContextVar("questions", default=None)


@contextmanager
def at_most_suggestions(number: int) -> Iterator[None]:
    """Within it ``nearest`` answers ``number`` times, and then with None: each answer costs a
    millisecond, and nobody reads the suggestions of a file in which every line is wrong.
    """
    token = _questions.set(iter(range(number)))
    try:
        yield
    finally:
        _questions.reset(token)


def nearest(name: str, options: Iterable[str]) -> str | None:
    """The option that was most likely meant, or None when none is near enough.

    Names that differ only in case, dashes and underscores win. Otherwise at most a third of the
    letters may be wrong. Of two that are equally near the first one wins. Within
    ``at_most_suggestions`` the answer is None after so many questions.
    """
    wanted, left = plain(name), _questions.get()
    if not wanted or (left is not None and next(left, None) is None):
        return None
    letters = _letters(wanted)
    spelt = [(*_spelling(option), option) for option in options]
    # An edit puts at most one letter in and takes one out: half of the others cannot be mended.
    likely = sorted(
        ((letters ^ its_letters).bit_count(), number, candidate, option)
        for number, (candidate, its_letters, option) in enumerate(spelt)
    )
    best: tuple[tuple[int, int, int], str] | None = None
    for others, number, candidate, option in likely:
        longer = abs(len(candidate) - len(wanted))
        allowed = max(1, min(len(wanted), len(candidate)) // 3)
        if best is not None:
            allowed = min(allowed, best[0][0])
        if longer > allowed or others > 2 * allowed:
            continue
        rank = (distance(wanted, candidate, allowed), longer, number)
        if rank[0] <= allowed and (best is None or rank < best[0]):
            best = (rank, option)
    return best[1] if best else None


def closest(name: str, options: Iterable[str], number: int) -> list[str]:
    """The ``number`` options that are nearest by spelling, however far; the first ones where
    ``at_most_suggestions`` is used up.
    """
    wanted, left, listed = plain(name), _questions.get(), list(options)
    if left is None or next(left, None) is not None:
        listed.sort(key=lambda option: distance(wanted, plain(option)))
    return listed[:number]


def _letters(word: str) -> int:
    """The set of a word's letters as the bits of a number (rare ones share theirs)."""
    return sum(1 << bit for bit in {ord(letter) % 64 for letter in word})


@lru_cache(maxsize=4096)
def _spelling(option: str) -> tuple[str, int]:
    word = plain(option)
    return word, _letters(word)


def resolve(target: str) -> object:
    """The object that ``"module:object"`` names, imported now.

    Raises:
        TunesmithError: the string names nothing that can be imported.
    """
    module, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise TunesmithError(
            f"`{target}` cannot be loaded: {error}",
            hint="install what it needs, or correct the name (`module:object`)",
            where=target,
        ) from error


class Registry:
    """The parts of one kind by name, each ``"module:object"`` until somebody loads it.

    ``late`` adds names that cost something to find (entry points of installed packages); it is
    asked once, on the first miss or listing.
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, str],
        *,
        late: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        self.kind = kind
        self._entries = dict(entries)
        self._late = late

    def __contains__(self, name: object) -> bool:
        if name not in self._entries:
            self._add_late()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._add_late()
        return iter(sorted(self._entries))

    def add(self, name: str, target: str) -> None:
        """Register ``target`` under ``name``.

        Raises:
            ConfigError: the name is taken by something else.
        """
        if self._entries.get(name, target) != target:
            raise ConfigError(
                f"{self.kind} `{name}` is already `{self._entries[name]}`",
                hint=f"register `{target}` under another name",
            )
        if ":" not in target:
            raise ConfigError(
                f"{self.kind} `{name}` is registered as `{target}`",
                hint="write it as `module:object`",
            )
        self._entries[name] = target

    def target(self, name: str) -> str:
        """The ``"module:object"`` of a name.

        Raises:
            ConfigError: nothing has that name; the hint says the nearest one.
        """
        if name not in self:
            meant = nearest(name, self)
            raise ConfigError(
                f"there is no {self.kind} `{name}`",
                hint=f"did you mean `{meant}`?" if meant else f"one of: {', '.join(self)}",
            )
        return self._entries[name]

    def load(self, name: str) -> object:
        """The object of a name, imported now."""
        return resolve(self.target(name))

    def _add_late(self) -> None:
        if self._late is None:
            return
        late, self._late = self._late, None
        for name, target in late().items():
            self.add(name, target)


KINDS: Mapping[str, str] = {
    "formats": "data set type",
    "objectives": "objective",
    "optimizers": "optimizer",
    "schedules": "schedule",
    "commands": "command",
}
"""What each table of the catalog holds, in the words of an error message."""


@cache
def registry(table: str) -> Registry:
    """The registry of one table of the catalog: ours, then what installed packages add.

    ``table`` is one of ``KINDS``. The same object is returned each time.
    """
    return Registry(KINDS[table], catalog.TABLES[table], late=lambda: _entry_points(table))


def _entry_points(table: str) -> dict[str, str]:
    from importlib.metadata import entry_points  # 20 ms, and only wanted on a miss

    found = entry_points(group=f"tunesmith.{table}")
    return {point.name: point.value for point in found}
