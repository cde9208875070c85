"""The turns of one rendered conversation: where each body starts and ends, and what stops it.

A turn's *body* is what a served model writes itself: it starts behind the part of the generation
prompt that the row holds, and ends with the token that ends the turn.
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

_TAG = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")

Ends = Literal["turn", "all", "last", "none"]
"""Which ends of turn train: those of trained turns, all, the row's last one, or none."""


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


def mixed(text: str) -> RowError:
    """The error for text of mixed origin that trains, or decides what does."""
    return RowError(
        "messages",
        f"the template mixes several fields into {text[:60]!r} in or beside a trained turn, so "
        "that it cannot be said which turn the text belongs to",
        "print the fields one by one in the template, or do not train this turn",
    )


def _refused(number: int, message: str, fix: str) -> RowError:
    return RowError(f"messages[{number}]", f"turn {number + 1}: {message}", fix)


class TurnFinder:
    """The turns of one rendered conversation."""

    def __init__(
        self,
        text: Tracked,
        messages: Sequence[Message],
        shape: TurnShape,
        stops: Stops,
        thinking_key: str,
    ) -> None:
        self.text = plain(text)
        self.lints: list[Lint] = []
        self._messages = messages
        self._shape = shape
        self._stops = stops
        self._thinking_key = thinking_key
        self._runs = spans_of(text)
        self._spans = [
            (start, end, origin) for start, end, origin in self._runs if origin is not None
        ]
        self._starts_of_spans = [start for start, _, _ in self._spans]
        self._ends_of_spans = [end for _, end, _ in self._spans]
        self._starts_of_runs = [start for start, _, _ in self._runs]
        self._own = self._by_message()

    def _by_message(self) -> dict[int, list[tuple[int, int, str]]]:
        """Where each message's fields stand, roles left out: (start, end, field)."""
        own: dict[int, list[tuple[int, int, str]]] = {}
        for start, end, origin in self._spans:
            if origin.field != "role" and origin.message >= 0:
                own.setdefault(origin.message, []).append((start, end, origin.field))
        return own

    def find(self, number: int, *, trains: bool) -> Turn | None:
        """The turn of a message; None where it printed nothing and need not train."""
        message = self._messages[number]
        if number not in self._own:
            return self._without_text(number, message, trains=trains)
        first, last = self._own[number][0][0], self._own[number][-1][1]
        if trains:
            last = self._last_of_body(number, message, first, last)
            self._lint_dropped(number, message)
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
                raise mixed(self.text[start:end])
        if _has_text(message):
            raise _refused(
                number,
                f"the template printed nothing of this {message.role} turn, which should train",
                "use a template that prints it, or do not train it",
            )
        self._lint("empty-turn", f"turn {number + 1}: the {message.role} turn is empty")
        return None

    def _lint(self, code: str, message: str) -> None:
        self.lints.append(Lint(code, message))

    # --- what of a turn is its body -------------------------------------------------------------

    def _last_of_body(self, number: int, message: Message, first: int, last: int) -> int:
        """Where the last character of the turn's body ends.

        What stands behind the end of its calls, such as a tool's answer inside of the turn, is not
        written by the model. Raises ``RowError`` where another turn's text stands before it.
        """
        stop = self._call_stop(message)
        for at in range(
            bisect_left(self._starts_of_runs, first), bisect_left(self._starts_of_runs, last)
        ):
            start, end, origin = self._runs[at]
            if origin is None and stop and self.text.find(stop, start, end) >= 0:
                return self._up_to(number, start)
            if origin is not None and origin.message >= 0 and origin.message != number:
                raise _refused(
                    number,
                    f"the template prints turn {origin.message + 1} inside of it",
                    "use another template, or split the turn where the other one stands",
                )
        return last

    def _up_to(self, number: int, position: int) -> int:
        """Where the turn's last field before the position ends; fields behind it are told."""
        before = {name for start, _, name in self._own[number] if start < position}
        for start, _, name in self._own[number]:
            if start >= position and name not in before:
                self._lint(
                    "behind-end",
                    f"turn {number + 1}: the template prints `{name}` behind the end of the "
                    "turn's calls, where it does not train",
                )
                break
        return max(end for start, end, _ in self._own[number] if start < position)

    def _call_stop(self, message: Message) -> str:
        """The text that ends a turn of calls, as small renderings showed; "" if none.

        That is what ends answers too, else the last special token, else the last tag.
        """
        if not message.fields.get("tool_calls"):
            return ""
        end = self._shape.call_end
        if self._shape.turn_end and self._shape.turn_end in end:
            return self._shape.turn_end
        marks = [*_TAG.findall(end), *self._stops.pattern.findall(end)]
        return next((mark for mark in reversed(marks) if mark not in self._shape.call_gap), "")

    def _lint_dropped(self, number: int, message: Message) -> None:
        """A finding where the template prints the turn, but not its text, reasoning or calls."""
        shown = {name for _, _, name in self._own[number]}
        for key in ("content", self._thinking_key, "tool_calls"):
            if key not in shown and _holds_text(message.fields.get(key)):
                self._lint(
                    "dropped-field", f"turn {number + 1}: the template does not print its `{key}`"
                )

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
        prompt, header, before = self._opening(number)
        if not prompt:
            return left + self._without_prompt(number, gap, header, before)
        start, length = longest_prefix(prompt, gap)
        if length < len(header):
            raise _refused(
                number,
                f"it is opened by {gap!r}, not by the template's generation prompt {prompt!r}",
                "use a template whose generation prompt opens its assistant turns",
            )
        if length < len(prompt):
            rest = prompt[length:]
            self._lint(
                "prompt-differs",
                f"turn {number + 1}: a server's prompt goes on with {rest!r}, this turn does not",
            )
        return left + start + length

    def _opening(self, number: int) -> tuple[str, str, str]:
        """The prompt for this turn, its header, and what stands before where there is none."""
        follows_tool = number > 0 and self._messages[number - 1].role == "tool"
        if follows_tool and self._shape.after_tool is not None:
            return self._shape.after_tool
        return self._shape.prompt, self._shape.header, self._shape.user_end

    def _without_prompt(self, number: int, gap: str, header: str, before: str) -> int:
        """Where the body starts inside the gap, for templates without a generation prompt."""
        position = gap.find(before)
        start = position + len(before) if position >= 0 else 0
        if position < 0 and number > 0:
            raise _refused(
                number,
                f"the template has no generation prompt, and {before!r}, which ends what comes "
                f"before an answer, is not in {gap!r} before this turn",
                "give the template a generation prompt (`add_generation_prompt`)",
            )
        if not header or not gap.startswith(header, start):
            return start
        self._lint(
            "no-generation-prompt",
            f"the template opens a turn by {header!r} but has no generation prompt: a server will "
            "not write it",
        )
        return start + len(header)

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
        stops = self._stops_in(tail, number)
        if not stops:
            if trains:
                self._check_unended(number, last, tail)
            return last, ()
        found = tuple(
            Stop(last + at, last + at + len(text), self._stops.is_eos(text)) for at, text in stops
        )
        return found[0].start, found

    def _stops_in(self, tail: str, number: int) -> list[tuple[int, str]]:
        """What ends a turn in the text behind it, and where; the first one ends the body.

        That is the first of: an eos or eot token, what the template ends answers with, what it ends
        calls with. Where there is none, it is the first special token.
        """
        stops = self._named_stops(tail)
        for end in (self._shape.turn_end, self._call_stop(self._messages[number])):
            at = tail.find(end) if end else -1
            if at >= 0 and not any(start < at + len(end) for start, _ in stops):
                stops = [(at, end), *stops]
        return stops or self._first_special(tail)

    def _check_unended(self, number: int, last: int, tail: str) -> None:
        """Refuse a turn that nothing ends where more than its last text belongs to it, or may."""
        self._check_behind(last + len(tail))
        if self._messages[number].role != ASSISTANT:
            return
        if tail.strip() and self._own[number][-1][2] == "tool_calls":
            raise _refused(
                number,
                f"{tail[:60]!r} follows the last argument of its calls, and it cannot "
                "be said where in it the turn ends",
                "name the token that ends a turn in `eot_tokens`, or do not train this turn",
            )
        self._lint(
            "no-end-of-turn",
            f"turn {number + 1}: nothing ends the turn, so that nothing teaches the model to stop",
        )

    def _check_behind(self, position: int) -> None:
        """Refuse text of mixed origin behind a turn that nothing ended before it."""
        at = bisect_left(self._starts_of_spans, position)
        if at < len(self._spans) and self._spans[at][2] == UNKNOWN:
            start, end, _ = self._spans[at]
            raise mixed(self.text[start:end])

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
