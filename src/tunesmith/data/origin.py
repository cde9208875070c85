# ruff: noqa: D102 (the methods are those of str)
"""Text that remembers where each of its characters came from.

A chat template is a program; what it prints is a mix of its own text and of the fields of messages.
``Tracked`` is a ``str`` that carries runs of (length, origin) through the operations of templates,
so that one rendering says which message and which field every character belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, SupportsIndex

TOOLS: Final = -1
"""The message number of text that came from the tool descriptions."""


class Origin(NamedTuple):
    """A field of a message: the message's number from 0, and the field's key in it.

    ``part`` is the number from 1 of the message's span that the text belongs to, 0 for none.
    """

    message: int
    field: str
    part: int = 0


UNKNOWN: Final = Origin(-2, "?")
"""Text made of several origins by an operation that is not followed character by character."""

Run = tuple[int, Origin | None]
"""A length and the origin of that many characters; None is the template's own text."""


def merge_runs(runs: Iterable[Run]) -> tuple[Run, ...]:
    """The same runs, neighbours of one origin joined and empty ones left out."""
    merged: list[Run] = []
    for length, origin in runs:
        if length == 0:
            continue
        if merged and merged[-1][1] == origin:
            merged[-1] = (merged[-1][0] + length, origin)
        else:
            merged.append((length, origin))
    return tuple(merged)


def runs_of(text: str) -> tuple[Run, ...]:
    """The runs of a text; a plain string is the template's own."""
    if isinstance(text, Tracked):
        return text._runs
    return ((len(text), None),) if text else ()


def spans_of(text: str) -> list[tuple[int, int, Origin | None]]:
    """The runs of a text as (start, end, origin)."""
    spans = []
    start = 0
    for length, origin in runs_of(text):
        spans.append((start, start + length, origin))
        start += length
    return spans


def plain(text: str) -> str:
    """The same characters as an exact ``str``."""
    return str.__str__(text)


def _joined(left: tuple[Run, ...], right: tuple[Run, ...]) -> tuple[Run, ...]:
    """What ``merge_runs`` makes of two sides that are merged already: only their border is new."""
    if left and right and left[-1][1] == right[0][1]:
        border = (left[-1][0] + right[0][0], right[0][1])
        return (*left[:-1], border, *right[1:])
    return left + right


class Tracked(str):
    """A string with the origin of each character.

    The attributes begin with an underscore, so that the sandbox hides them from templates.
    ``_home`` is the origin of an empty string, which has no character to carry it.
    """

    __slots__ = ("_home", "_runs")
    _runs: tuple[Run, ...]
    _home: Origin | None

    def __new__(
        cls, text: str = "", runs: Iterable[Run] | None = None, home: Origin | None = None
    ) -> Tracked:
        self = super().__new__(cls, text)
        if runs is None:
            runs = runs_of(text) if isinstance(text, Tracked) else ((len(text), home),)
        self._runs = merge_runs(runs)
        self._home = home
        return self

    def __str__(self) -> str:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Tracked:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (Tracked, (plain(self), self._runs, self._home))

    # --- pieces ---------------------------------------------------------------------------------

    def _cut(self, start: int, end: int) -> Tracked:
        """The characters from ``start`` to ``end``, both inside the string."""
        kept: list[Run] = []
        position = 0
        for length, origin in self._runs:
            low, high = max(start, position), min(end, position + length)
            if high > low:
                kept.append((high - low, origin))
            position += length
            if position >= end:
                break
        return Tracked(str.__getitem__(self, slice(start, end)), kept, self._home)

    def __getitem__(self, key: SupportsIndex | slice) -> Tracked:
        if not isinstance(key, slice):
            index = key.__index__()
            str.__getitem__(self, index)
            index += len(self) if index < 0 else 0
            return self._cut(index, index + 1)
        start, stop, step = key.indices(len(self))
        if step == 1:
            return self._cut(start, max(start, stop))
        origins = [origin for length, origin in self._runs for _ in range(length)]
        picked = [(1, origins[index]) for index in range(start, stop, step)]
        return Tracked(str.__getitem__(self, key), picked, self._home)

    def __iter__(self) -> Iterator[Tracked]:
        for index in range(len(self)):
            yield self._cut(index, index + 1)

    def lstrip(self, chars: str | None = None, /) -> Tracked:
        return self._cut(len(self) - len(str.lstrip(self, chars)), len(self))

    def rstrip(self, chars: str | None = None, /) -> Tracked:
        return self._cut(0, len(str.rstrip(self, chars)))

    def strip(self, chars: str | None = None, /) -> Tracked:
        return self.lstrip(chars).rstrip(chars)

    def removeprefix(self, prefix: str, /) -> Tracked:
        return self._cut(len(prefix), len(self)) if str.startswith(self, prefix) else self

    def removesuffix(self, suffix: str, /) -> Tracked:
        return self._cut(0, len(self) - len(suffix)) if str.endswith(self, suffix) else self

    def _located(self, parts: Sequence[str], separator: int | None) -> list[Tracked]:
        """Cut the parts, which stand in the string in this order.

        ``separator`` is the number of characters between two of them; None where it varies.
        """
        found: list[Tracked] = []
        position = 0
        for part in parts:
            start = position if separator is not None else str.find(self, part, position)
            found.append(self._cut(start, start + len(part)))
            position = start + len(part) + (separator or 0)
        return found

    def split(  # type: ignore[override]
        self, sep: str | None = None, maxsplit: SupportsIndex = -1
    ) -> list[Tracked]:
        return self._located(str.split(self, sep, maxsplit), None if sep is None else len(sep))

    def rsplit(  # type: ignore[override]
        self, sep: str | None = None, maxsplit: SupportsIndex = -1
    ) -> list[Tracked]:
        parts = str.rsplit(self, sep, maxsplit)
        if sep is not None:
            return self._located(parts, len(sep))
        found: list[Tracked] = []
        end = len(self)
        for part in reversed(parts):
            start = str.rfind(self, part, 0, end)
            found.append(self._cut(start, start + len(part)))
            end = start
        return found[::-1]

    def splitlines(  # type: ignore[override]
        self,
        keepends: bool = False,  # noqa: FBT001, FBT002
    ) -> list[Tracked]:
        whole = self._located(str.splitlines(self, True), 0)
        if keepends:
            return whole
        lines = str.splitlines(self)
        return [line._cut(0, len(text)) for line, text in zip(whole, lines, strict=True)]

    def _parted(self, start: int, length: int) -> tuple[Tracked, Tracked, Tracked]:
        end = start + length
        return self._cut(0, start), self._cut(start, end), self._cut(end, len(self))

    def partition(self, sep: str, /) -> tuple[Tracked, Tracked, Tracked]:
        start = str.find(self, sep)
        return self._parted(start, len(sep)) if start >= 0 else self._parted(len(self), 0)

    def rpartition(self, sep: str, /) -> tuple[Tracked, Tracked, Tracked]:
        start = str.rfind(self, sep)
        return self._parted(start, len(sep)) if start >= 0 else self._parted(0, 0)

    # --- joining --------------------------------------------------------------------------------

    def __add__(self, other: str) -> Tracked:
        if not isinstance(other, str):
            return NotImplemented
        return _made(str.__add__(self, other), _joined(self._runs, runs_of(other)), self._home)

    def __radd__(self, other: str) -> Tracked:
        if not isinstance(other, str):
            return NotImplemented
        return _made(str.__add__(other, self), _joined(runs_of(other), self._runs), self._home)

    def __mul__(self, times: SupportsIndex) -> Tracked:
        text = str.__mul__(self, times)
        return Tracked(text, self._runs * max(times.__index__(), 0), self._home)

    __rmul__ = __mul__

    def join(self, items: Iterable[str], /) -> Tracked:
        parts: list[str] = []
        for item in items:
            parts += [self, item] if parts else [item]
        str.join("", parts)  # the same TypeError as a plain string's for what is no string
        return concatenate(parts)

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> Tracked:
        left = count.__index__()
        if not old:
            return _follow(str.replace(self, old, new, left), (self, new))
        parts: list[str] = []
        position = 0
        while left != 0 and (start := str.find(self, old, position)) >= 0:
            parts += [self._cut(position, start), new]
            position = start + len(old)
            left -= 1
        return concatenate([*parts, self._cut(position, len(self))])

    # --- letters --------------------------------------------------------------------------------

    def _recased(self, text: str) -> Tracked:
        if len(text) == len(self):
            return Tracked(text, self._runs, self._home)
        return _follow(text, (self,))

    def upper(self) -> Tracked:
        return self._recased(str.upper(self))

    def lower(self) -> Tracked:
        return self._recased(str.lower(self))

    def title(self) -> Tracked:
        return self._recased(str.title(self))

    def capitalize(self) -> Tracked:
        return self._recased(str.capitalize(self))

    def swapcase(self) -> Tracked:
        return self._recased(str.swapcase(self))

    def casefold(self) -> Tracked:
        return self._recased(str.casefold(self))

    # --- what is not followed by character ------------------------------------------------------

    def __mod__(self, values: Any) -> Tracked:
        return _follow(str.__mod__(self, values), (self, values))

    def __rmod__(self, template: str) -> Tracked:
        return _follow(str.__mod__(template, self), (template, self))

    def __format__(self, spec: str) -> str:
        return str.__format__(plain(self), spec)


def _made(text: str, runs: tuple[Run, ...], home: Origin | None) -> Tracked:
    """A tracked text of runs that are merged already."""
    made = str.__new__(Tracked, text)
    made._runs, made._home = runs, home
    return made


def _coarse_method(name: str) -> Callable[..., Tracked]:
    def method(self: Tracked, *args: Any) -> Tracked:
        return _follow(getattr(str, name)(self, *args), (self, args))

    method.__name__ = name
    return method


for _name in ("expandtabs", "center", "ljust", "rjust", "zfill", "translate"):
    setattr(Tracked, _name, _coarse_method(_name))


def concatenate(parts: Iterable[Any]) -> Tracked:
    """The parts, as text, one after the other."""
    texts = [part if isinstance(part, str) else str(part) for part in parts]
    return Tracked("".join(texts), [run for text in texts for run in runs_of(text)])


def origins_in(value: Any) -> set[Origin | None]:
    """Every origin inside a value; plain strings and numbers have none."""
    found: set[Origin | None] = set()
    _collect(value, found)
    return found


def _collect(value: Any, found: set[Origin | None]) -> None:
    if isinstance(value, Tracked):
        found.update(origin for _, origin in value._runs)
        if not value and value._home is not None:
            found.add(value._home)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _collect(key, found)
            _collect(item, found)
    elif isinstance(value, list | tuple):
        for item in value:
            _collect(item, found)


def _follow(text: str, inputs: Any) -> Tracked:
    """Text made from inputs as a whole: their one origin, or unknown."""
    origins = origins_in(inputs)
    if not origins:
        return Tracked(plain(text))
    origin = origins.pop() if len(origins) == 1 else UNKNOWN
    return Tracked(plain(text), ((len(text), origin),), origin)


def follow(result: Any, inputs: Any) -> Any:
    """A result of an operation that is not followed, its plain strings marked by the inputs.

    One origin in: that origin out. Several: ``UNKNOWN``. None: the result as it is.
    """
    if isinstance(result, Tracked) or not isinstance(result, str | list | tuple):
        return result
    if not origins_in(inputs):
        return result
    if isinstance(result, str):
        return _follow(result, inputs)
    marked = [follow(item, inputs) for item in result]
    return marked if isinstance(result, list) else tuple(marked)


def mark(value: Any, origin: Origin) -> Any:
    """A fresh copy of plain data whose strings, keys included, carry the origin.

    What is no plain data becomes the text ``<its type>``: a template must not get at methods of
    live objects.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return Tracked(plain(value), home=origin)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return {mark(key, origin): mark(item, origin) for key, item in value.items()}
    if isinstance(value, list):
        return [mark(item, origin) for item in value]
    if isinstance(value, tuple):
        return tuple(mark(item, origin) for item in value)
    return f"<{type(value).__name__}>"
