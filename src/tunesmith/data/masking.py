"""Which characters of a rendered conversation train, and which tokens.

A turn's *body* is what a served model writes itself: it starts behind the part of the generation
prompt that the row holds, and ends with the token that ends the turn. Template text inside a body
trains; headers never do.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tunesmith.data.origin import UNKNOWN, Tracked, plain, spans_of
from tunesmith.data.records import Lint, Message, RowError
from tunesmith.data.shape import ASSISTANT, TurnShape, longest_prefix
from tunesmith.data.weights import WeightedSpan, merge_spans, weigh_body

Ends = Literal["turn", "all", "last", "none"]
"""Which ends of turn train: those of trained turns, all, the row's last one, or none."""

ROLE_ALIASES = {"human": "user", "gpt": "assistant"}
"""Names that older data sets use for a role."""


@dataclass(frozen=True, slots=True)
class Stops:
    """The texts of tokens that end a turn.

    ``eos`` and ``eot`` (``eot_tokens``) come from the config, ``special`` are all special tokens of
    the tokenizer; ``train_eos`` and ``train_eot`` say which ends train.
    """

    eos: str
    eot: tuple[str, ...]
    special: frozenset[str]
    train_eos: Ends
    train_eot: Ends
    pattern: re.Pattern[str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        texts = sorted({*self.special, *self.eot, *filter(None, [self.eos])}, key=len, reverse=True)
        pattern = "|".join(re.escape(text) for text in texts if text)
        object.__setattr__(self, "pattern", re.compile(pattern or r"(?!)"))

    def is_eos(self, text: str) -> bool:
        """Whether ``train_eos`` rules this end; one that nobody named counts as an eot token."""
        return text == self.eos and text not in self.eot

    def mode(self, stop: Stop) -> Ends:
        """Which ends of this kind train."""
        return self.train_eos if stop.is_eos else self.train_eot


@dataclass(frozen=True, slots=True)
class Stop:
    """One end of a turn: its characters, and whether they are the eos."""

    start: int
    end: int
    is_eos: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """Where a message stands in the rendered text.

    ``start`` and ``end`` hold its body without the stops, ``first`` is its first field character.
    """

    message: int
    trains: bool
    start: int
    first: int
    end: int
    stops: tuple[Stop, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """The turns of a conversation that one sample may train; ``is_last``: the final ones."""

    turns: range
    is_last: bool


@dataclass(frozen=True, slots=True)
class Mask:
    """The trained spans of a text, (start, end, weight) in order, and the turns they come from."""

    spans: tuple[WeightedSpan, ...]
    turns: tuple[Turn, ...]
    lints: tuple[Lint, ...]


# --- the turns of a row ---------------------------------------------------------------------------


class Masker:
    """Finds the turns of rendered conversations and decides what of them trains."""

    def __init__(
        self,
        roles: Sequence[str] | None,
        stops: Stops,
        aliases: Mapping[str, str] | None = None,
        *,
        last_only: bool = False,
    ) -> None:
        names = {**ROLE_ALIASES, **(aliases or {})}
        self._roles = None if roles is None else {names.get(role, role) for role in roles}
        self._stops = stops
        self._last_only = last_only

    def trained(self, messages: Sequence[Message]) -> list[bool]:
        """Which turns of a whole conversation train."""
        wanted = [self._trains(message) for message in messages]
        if self._last_only and any(wanted):
            last = max(number for number, wants in enumerate(wanted) if wants)
            return [number == last for number in range(len(messages))]
        return wanted

    def _trains(self, message: Message) -> bool:
        """Whether a turn trains: by the row's own wish, by its spans, or by its role."""
        if message.train is not None:
            return message.train
        if message.spans:
            return any(span.weight > 0 for span in message.spans)
        return self._roles is None or message.role in self._roles

    def mask(
        self,
        text: Tracked,
        messages: Sequence[Message],
        trained: Sequence[bool],
        shape: TurnShape,
        part: Part,
    ) -> Mask:
        """What trains of a rendered conversation: the ``trained`` turns of ``part``.

        Raises ``RowError`` where that cannot be said.
        """
        finder = _TurnFinder(text, messages, shape, self._stops)
        turns = []
        for number in part.turns:
            turn = finder.find(number, trains=trained[number])
            if turn is not None:
                turns.append(turn)
        spans = merge_spans(self._trained_spans(text, turns, messages, part))
        _check_known(text, spans)
        return Mask(spans, tuple(turns), tuple(finder.lints))

    def _trained_spans(
        self, text: Tracked, turns: Sequence[Turn], messages: Sequence[Message], part: Part
    ) -> list[WeightedSpan]:
        spans: list[WeightedSpan] = []
        final = {stop.is_eos: stop for turn in turns for stop in turn.stops} if part.is_last else {}
        for turn in turns:
            message = messages[turn.message]
            if turn.trains:
                spans += weigh_body(text, turn.start, turn.end, message)
            for stop in turn.stops:
                mode = self._stops.mode(stop)
                if (
                    mode == "all"
                    or (mode == "turn" and turn.trains)
                    or (mode == "last" and final.get(stop.is_eos) == stop)
                ):
                    spans.append((stop.start, stop.end, message.weight if turn.trains else 1.0))
        return spans


def _check_known(text: Tracked, spans: Sequence[WeightedSpan]) -> None:
    for start, end, origin in spans_of(text):
        if origin == UNKNOWN and any(start < high and low < end for low, high, _ in spans):
            raise _mixed(plain(text)[start:end])


def _mixed(text: str) -> RowError:
    return RowError(
        "messages",
        f"the template mixes several fields into {text[:60]!r} in or beside a trained turn, so "
        "that it cannot be said which turn the text belongs to",
        "print the fields one by one in the template, or do not train this turn",
    )


class _TurnFinder:
    """The turns of one rendered conversation."""

    def __init__(
        self, text: Tracked, messages: Sequence[Message], shape: TurnShape, stops: Stops
    ) -> None:
        self.text = plain(text)
        self.lints: list[Lint] = []
        self._messages = messages
        self._shape = shape
        self._stops = stops
        self._spans = [
            (start, end, origin) for start, end, origin in spans_of(text) if origin is not None
        ]
        self._starts_of_spans = [start for start, _, _ in self._spans]
        self._ends_of_spans = [end for _, end, _ in self._spans]
        self._extents = self._find_extents()

    def _find_extents(self) -> dict[int, tuple[int, int]]:
        """First and last position of each message's fields, roles left out."""
        extents: dict[int, tuple[int, int]] = {}
        for start, end, origin in self._spans:
            if origin.field != "role" and origin.message >= 0:
                extents[origin.message] = (extents.get(origin.message, (start, 0))[0], end)
        return extents

    def find(self, number: int, *, trains: bool) -> Turn | None:
        """The turn of a message; None where it printed nothing and need not train."""
        message = self._messages[number]
        if number not in self._extents:
            return self._without_text(number, message, trains=trains)
        first, last = self._extents[number]
        start = first
        if trains and message.role == ASSISTANT:
            start = self._body_start(number, first)
        elif trains:
            start = self._left_over_blanks(first)
        end, stops = self._ends(number, last, trains=trains)
        return Turn(number, trains, start, first, end, stops)

    def _without_text(self, number: int, message: Message, *, trains: bool) -> Turn | None:
        """No turn for a message that is empty; an error for one that the template dropped."""
        if not trains:
            return None
        for start, end, origin in self._spans:
            if origin == UNKNOWN:
                raise _mixed(self.text[start:end])
        if _has_text(message):
            raise RowError(
                f"messages[{number}]",
                f"the template printed nothing of this {message.role} turn, which should train",
                "use a template that prints it, or do not train it",
            )
        self._lint("empty-turn", f"messages[{number}]: the {message.role} turn is empty")
        return None

    def _lint(self, code: str, message: str) -> None:
        self.lints.append(Lint(code, message))

    # --- where a body starts --------------------------------------------------------------------

    def _gap(self, number: int, first: int) -> int:
        """Where the text between the turn before and this turn's first character starts."""
        at = bisect_right(self._ends_of_spans, first) - 1
        while at >= 0:
            _, end, origin = self._spans[at]
            if origin.message != number:
                return end
            at -= 1
        return 0

    def _body_start(self, number: int, first: int) -> int:
        left = self._gap(number, first)
        gap = self.text[left:first]
        if not self._shape.prompt:
            return left + self._without_prompt(number, gap)
        start, length = longest_prefix(self._shape.prompt, gap)
        if length < len(self._shape.header):
            raise RowError(
                f"messages[{number}]",
                f"the turn is opened by {gap!r}, not by the template's generation prompt "
                f"{self._shape.prompt!r}",
                "use a template whose generation prompt opens its assistant turns",
            )
        if length < len(self._shape.prompt):
            rest = self._shape.prompt[length:]
            self._lint(
                "prompt-differs",
                f"messages[{number}]: a server's prompt goes on with {rest!r}, this turn does not",
            )
        return left + start + length

    def _without_prompt(self, number: int, gap: str) -> int:
        """Where the body starts inside the gap, for templates without a generation prompt."""
        position = gap.find(self._shape.user_end)
        start = position + len(self._shape.user_end) if position >= 0 else 0
        header = gap[start:]
        if position < 0 and number > 0:
            raise RowError(
                f"messages[{number}]",
                f"the template has no generation prompt, and {self._shape.user_end!r}, which ends "
                f"a user turn, is not in {gap!r} before this turn",
                "give the template a generation prompt (`add_generation_prompt`)",
            )
        if header.strip():
            self._lint(
                "no-generation-prompt",
                f"the template opens a turn by {header.strip()!r} but has no generation prompt: "
                "a server will not write it",
            )
        return start + len(header.rstrip())

    def _left_over_blanks(self, first: int) -> int:
        """The start of a turn of another role: its text and the blank that a token joins to it."""
        while first > 0 and self.text[first - 1] == " ":
            first -= 1
        return first

    # --- where a body ends ----------------------------------------------------------------------

    def _tail_end(self, last: int) -> int:
        """Where the template's own text behind a turn ends: at the next field of anything."""
        at = bisect_left(self._starts_of_spans, last)
        return self._starts_of_spans[at] if at < len(self._spans) else len(self.text)

    def _ends(self, number: int, last: int, *, trains: bool) -> tuple[int, tuple[Stop, ...]]:
        """The end of the body, and the stops behind it."""
        tail = self.text[last : self._tail_end(last)]
        end = self._shape.turn_end
        stops = self._named_stops(tail)
        if end and tail.startswith(end) and not any(at < len(end) for at, _ in stops):
            stops = [(0, end), *stops]
        stops = stops or self._first_special(tail)
        if not stops:
            if trains:
                self._check_behind(last + len(tail))
            if trains and self._messages[number].role == ASSISTANT:
                self._lint(
                    "no-end-of-turn",
                    f"messages[{number}]: nothing ends the turn, so that nothing teaches the model "
                    "to stop",
                )
            return last, ()
        found = tuple(
            Stop(last + at, last + at + len(text), self._stops.is_eos(text)) for at, text in stops
        )
        return found[0].start, found

    def _check_behind(self, position: int) -> None:
        """Refuse text of mixed origin behind a turn that nothing ended before it."""
        at = bisect_left(self._starts_of_spans, position)
        if at < len(self._spans) and self._spans[at][2] == UNKNOWN:
            start, end, _ = self._spans[at]
            raise _mixed(self.text[start:end])

    def _named_stops(self, tail: str) -> list[tuple[int, str]]:
        """The eos and eot tokens in the text behind a turn."""
        named = {self._stops.eos, *self._stops.eot}
        return [
            (match.start(), match.group())
            for match in self._stops.pattern.finditer(tail)
            if match.group() in named
        ]

    def _first_special(self, tail: str) -> list[tuple[int, str]]:
        """The first special token behind a turn, unless it opens the next one."""
        match = self._stops.pattern.search(tail)
        if match is None or self._shape.prompt.startswith(match.group()):
            return []
        return [(match.start(), match.group())]


def _has_text(message: Message) -> bool:
    return any(_holds_text(value) for key, value in message.fields.items() if key != "role")


def _holds_text(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, Mapping):
        return any(_holds_text(item) for key, item in value.items() if key != "type")
    if isinstance(value, list | tuple):
        return any(_holds_text(item) for item in value)
    return False
