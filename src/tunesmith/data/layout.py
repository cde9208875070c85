"""Where the fields of a conversation stand in its rendering, learned once for rows of one form.

A template that never looks at the letters of a field prints the same text around it, whatever it
says. ``Looks`` tells whether a rendering was such a one: then the next row of the same form (the
same roles and fields, empty or not, with blanks at their ends or not) is laid out alike, and its
text with origins is put together without running the template with origins again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from tunesmith.data.instrument import REASONING_FIELDS
from tunesmith.data.origin import Origin, Run, Tracked, plain, spans_of, tracked_of

Form = tuple[tuple[tuple[str, str | int], ...], ...]
"""Of each message its fields by name: the role itself, of a text how it begins and ends."""

_TRIMS: Final[tuple[Callable[[str], str], ...]] = (str, str.strip, str.lstrip, str.rstrip)
_MOST_FORMS: Final = 4096


def form_of(messages: Sequence[Mapping[str, Any]]) -> Form | None:
    """The form of messages; None for those that hold more than texts.

    Reasoning has none either: a template finds it under several names.
    """
    form = []
    for message in messages:
        fields: list[tuple[str, str | int]] = []
        for name, value in message.items():
            if value is None:
                continue
            if type(value) is not str or name in REASONING_FIELDS:
                return None
            fields.append((name, value if name == "role" else _ends(value)))
        form.append(tuple(fields))
    return tuple(form)


def _ends(text: str) -> int:
    """0 for an empty text, 1 for blanks alone, else 2 with 4 for a blank first, 8 for one last."""
    if not text:
        return 0
    first, last = text[0].isspace(), text[-1].isspace()
    if first and text.isspace():
        return 1
    return 2 + 4 * first + 8 * last


@dataclass(frozen=True, slots=True)
class _Part:
    """A stretch of a rendering: ``text``, or the field of ``origin`` as ``trim`` leaves it."""

    origin: Origin | None
    text: str
    trim: Callable[[str], str] | None

    def of(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """Its text in a row."""
        if self.trim is None or self.origin is None:
            return self.text
        value: str = messages[self.origin.message][self.origin.field]
        return self.trim(value)


class Layout:
    """How a rendering is put together: literal texts and fields in turns."""

    def __init__(self, parts: Sequence[_Part]) -> None:
        self._parts = tuple(parts)

    def fill(self, messages: Sequence[Mapping[str, Any]]) -> Laid:
        """The rendering of messages of the layout's form."""
        texts = [part.of(messages) for part in self._parts]
        lengths = list(map(len, texts))
        runs: list[Run] = [
            (length, part.origin) for length, part in zip(lengths, self._parts, strict=True)
        ]
        return Laid(tracked_of("".join(texts), runs), self, (0, *accumulate(lengths)))

    def is_literal(self, number: int) -> bool:
        """Whether a part is the same text in all rows."""
        return self._parts[number].trim is None


@dataclass(frozen=True, slots=True)
class Laid:
    """A rendering by a layout; ``starts`` is where each part begins, then where the last ends."""

    text: Tracked
    layout: Layout
    starts: tuple[int, ...]

    def place(self, position: int) -> tuple[int, int] | None:
        """The part that a position is in and how far; None inside of a field.

        The same part and distance is the same place in other rows.
        """
        number = bisect_right(self.starts, position) - 1
        distance = position - self.starts[number]
        return (number, distance) if not distance or self.layout.is_literal(number) else None


class Layouts:
    """The layouts of a template, by the form of the messages."""

    def __init__(self) -> None:
        self._known: dict[Form, Layout | None] = {}

    def lay(self, form: Form, messages: Sequence[Mapping[str, Any]]) -> Laid | None:
        """The messages as the layout of their form prints them; None where none was learned."""
        layout = self._known.get(form)
        return layout.fill(messages) if layout is not None else None

    def wants(self, form: Form) -> bool:
        """Whether a rendering of this form would teach anything."""
        return form not in self._known

    def learn(
        self, form: Form, messages: Sequence[Mapping[str, Any]], text: Tracked, *, looked: bool
    ) -> None:
        """Keep how a rendering was put together.

        Nothing is kept where the template ``looked`` at letters, or prints a field in another form
        than trimmed: it may print the next row otherwise.
        """
        if len(self._known) >= _MOST_FORMS:
            self._known.clear()
        self._known[form] = None if looked else _read(text, messages)


def _read(text: Tracked, messages: Sequence[Mapping[str, Any]]) -> Layout | None:
    whole = plain(text)
    parts = []
    for start, end, origin in spans_of(text):
        part = _part(whole[start:end], origin, messages)
        if part is None:
            return None
        parts.append(part)
    return Layout(parts)


def _part(text: str, origin: Origin | None, messages: Sequence[Mapping[str, Any]]) -> _Part | None:
    """A run of a rendering as a part of a layout; None for one that says nothing of other rows."""
    if origin is None or (origin.message >= 0 and origin.field == "role"):
        return _Part(origin, text, None)
    if origin.message < 0 or origin.part:
        return None
    value = messages[origin.message].get(origin.field)
    if not isinstance(value, str):
        return None
    trim = next((trim for trim in _TRIMS if trim(value) == text), None)
    return None if trim is None else _Part(origin, text, trim)
