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
from typing import Any, Literal, Protocol

from tunesmith.data.origin import UNKNOWN, Tracked, plain, spans_of
from tunesmith.data.records import Lint, Message, RowError

Ends = Literal["turn", "all", "last", "none"]
"""Which ends of turn train: those of trained turns, all, the row's last one, or none."""

ASSISTANT = "assistant"
ROLE_ALIASES = {"human": "user", "gpt": "assistant"}
"""Names that older data sets use for a role."""


class Render(Protocol):
    """Renders messages with origins; ``prompt`` asks for the generation prompt."""

    def __call__(self, messages: Sequence[Mapping[str, Any]], *, prompt: bool) -> Tracked:
        """The messages as one text."""
        ...


@dataclass(frozen=True, slots=True)
class TurnShape:
    """How a template opens and closes an assistant turn, learned from small renderings.

    ``prompt``: the generation prompt. ``header``: the part of it that opens a plain answer.
    ``user_end``: what closes a user turn, where there is no generation prompt. ``turn_end``: what
    closes an assistant turn, blanks behind it left out ("" where nothing does).
    """

    prompt: str
    header: str
    user_end: str
    turn_end: str


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
    """The trained character spans of a text, in order, with the turns that they come from."""

    spans: tuple[tuple[int, int], ...]
    turns: tuple[Turn, ...]
    lints: tuple[Lint, ...]


# --- the shape of a template ----------------------------------------------------------------------

_PROBE = ("alpha", "beta", "gamma", "delta")


class TemplateShapeError(Exception):
    """The template's turns cannot be told apart; the message says why."""


def learn_shape(render: Render) -> TurnShape:
    """The shape of a template's turns, from renderings of up to four short messages.

    Raises ``TemplateShapeError`` where no rule can tell the prompt from the answer.
    """
    texts: Sequence[Any] = _PROBE
    try:
        render(_probe(texts, 2), prompt=False)
    except Exception:  # some templates take content only as a list of parts
        texts = [[{"type": "text", "text": text}] for text in _PROBE]
    asked = _after(render(_probe(texts, 1), prompt=False), 0)
    prompted = _after(render(_probe(texts, 1), prompt=True), 0)
    answered = render(_probe(texts, 2), prompt=False)
    gap = _between(answered, 0, 1)
    prompt, user_end = _split_prompt(asked, prompted, gap)
    header = _learn_header(render, texts, prompt, gap)
    if prompt and not header:
        raise TemplateShapeError(
            f"its generation prompt {prompt!r} is not how it opens an assistant turn ({gap!r})"
        )
    if not prompt and not user_end:
        raise TemplateShapeError(
            "it has no generation prompt, and nothing of its own ends a user turn"
        )
    return TurnShape(prompt, header, user_end, _learn_end(render, texts, answered))


def _probe(texts: Sequence[Any], count: int) -> list[dict[str, Any]]:
    return [
        {"role": ASSISTANT if number % 2 else "user", "content": texts[number]}
        for number in range(count)
    ]


def _extent(text: Tracked, message: int) -> tuple[int, int]:
    """First and last position of a message's fields, its role left out; (-1, -1) if absent."""
    own = [
        (start, end)
        for start, end, origin in spans_of(text)
        if origin is not None and origin.message == message and origin.field != "role"
    ]
    return (own[0][0], own[-1][1]) if own else (-1, -1)


def _after(text: Tracked, message: int) -> str:
    return plain(text)[max(_extent(text, message)[1], 0) :]


def _between(text: Tracked, left: int, right: int) -> str:
    end, start = _extent(text, left)[1], _extent(text, right)[0]
    if end < 0 or start < end:
        raise TemplateShapeError("it does not print a user turn and its answer in this order")
    return plain(text)[end:start]


def _split_prompt(asked: str, prompted: str, gap: str) -> tuple[str, str]:
    """The generation prompt, and what ends a user turn.

    Templates that print something else instead of the prompt (an eos) are cut at the last mark
    that both renderings share.
    """
    shared = asked if prompted.startswith(asked) else _to_mark(_shared_start(asked, prompted))
    prompt = prompted[len(shared) :]
    return prompt, shared if gap.startswith(shared) else _to_mark(_shared_start(shared, gap))


def _learn_header(render: Render, texts: Sequence[Any], prompt: str, gap: str) -> str:
    """The part of the generation prompt that opens answers, those that reason first included."""
    header = prompt[: longest_prefix(prompt, gap)[1]]
    messages = _probe(texts, 2)
    messages[1]["reasoning_content"] = "epsilon"
    try:
        reasoned = _between(render(messages, prompt=False), 0, 1)
    except Exception:  # the template knows no reasoning, or refuses it
        return header
    shorter = prompt[: longest_prefix(prompt, reasoned)[1]]
    return shorter if shorter and len(shorter) < len(header) else header


def _shared_start(left: str, right: str) -> str:
    count = 0
    while count < min(len(left), len(right)) and left[count] == right[count]:
        count += 1
    return left[:count]


def _to_mark(text: str) -> str:
    """The text up to its last closing mark or blank, so that no token is cut in two."""
    end = max((text.rfind(mark) + 1 for mark in ">]}\n\t "), default=0)
    return text[:end]


def _learn_end(render: Render, texts: Sequence[Any], answered: Tracked) -> str:
    """What ends an assistant turn: the part that the last turn and an inner one share."""
    last = _after(answered, 1)
    try:
        inner = _between(render(_probe(texts, 4), prompt=False), 1, 2)
    except Exception:  # a template for one exchange alone: its only end is the last one
        return last.rstrip()
    shared = _shared_start(last, inner)
    return (shared if shared in (last, inner) else _to_mark(shared)).rstrip()


def longest_prefix(prompt: str, gap: str) -> tuple[int, int]:
    """Where the longest prefix of ``prompt`` stands in ``gap``, and its length: (start, length)."""
    for length in range(len(prompt), 0, -1):
        start = gap.rfind(prompt[:length])
        if start >= 0:
            return start, length
    return 0, 0


# --- the turns of a row ---------------------------------------------------------------------------


class Masker:
    """Finds the turns of rendered conversations and decides what of them trains."""

    def __init__(
        self,
        roles: Sequence[str],
        stops: Stops,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        names = {**ROLE_ALIASES, **(aliases or {})}
        self._roles = frozenset(names.get(role, role) for role in roles)
        self._stops = stops

    def trains(self, message: Message) -> bool:
        """Whether a turn trains: the row's own wish, else by its role."""
        return message.role in self._roles if message.train is None else message.train

    def mask(
        self,
        text: Tracked,
        messages: Sequence[Message],
        shape: TurnShape,
        part: Part | None = None,
    ) -> Mask:
        """What trains of a rendered conversation; only the turns of ``part`` may.

        Raises ``RowError`` where that cannot be said.
        """
        part = part or Part(range(len(messages)), is_last=True)
        finder = _TurnFinder(text, messages, shape, self._stops)
        turns = []
        for number in part.turns:
            turn = finder.find(number, trains=self.trains(messages[number]))
            if turn is not None:
                turns.append(turn)
        spans = merge_spans(self._trained_spans(turns, part))
        _check_known(text, spans)
        return Mask(spans, tuple(turns), tuple(finder.lints))

    def _trained_spans(self, turns: Sequence[Turn], part: Part) -> list[tuple[int, int]]:
        spans = [(turn.start, turn.end) for turn in turns if turn.trains]
        final = {stop.is_eos: stop for turn in turns for stop in turn.stops} if part.is_last else {}
        for turn in turns:
            for stop in turn.stops:
                mode = self._stops.mode(stop)
                if (
                    mode == "all"
                    or (mode == "turn" and turn.trains)
                    or (mode == "last" and final.get(stop.is_eos) == stop)
                ):
                    spans.append((stop.start, stop.end))
        return spans


def merge_spans(spans: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The spans in order, those that touch joined, empty ones left out."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def _check_known(text: Tracked, spans: Sequence[tuple[int, int]]) -> None:
    unknown = [(start, end) for start, end, origin in spans_of(text) if origin == UNKNOWN]
    for start, end in unknown:
        if any(start < high and low < end for low, high in spans):
            raise RowError(
                "messages",
                f"the template mixes several fields into {plain(text)[start:end][:60]!r} inside a "
                "trained turn, so that it cannot be said which turn the text belongs to",
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
                f"the template has no generation prompt, and {self._shape.user_end!r}, which ends a "
                f"user turn, is not in {gap!r} before this turn",
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
