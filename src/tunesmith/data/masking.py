"""Which characters of a rendered conversation train, and which tokens.

Template text inside a turn's body (see ``turns``) trains; headers never do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tunesmith.data.origin import UNKNOWN, Tracked, plain, spans_of
from tunesmith.data.records import Lint, Message
from tunesmith.data.shape import TurnShape
from tunesmith.data.turns import Stops, Turn, TurnFinder, mixed
from tunesmith.data.weights import WeightedSpan, merge_spans, weigh_body

ROLE_ALIASES = {"human": "user", "gpt": "assistant"}
"""Names that older data sets use for a role."""


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


def template_roles(roles: Iterable[str], aliases: Mapping[str, str]) -> set[str]:
    """What the template calls these roles; ``aliases`` are the data set's own names for some."""
    names = {**ROLE_ALIASES, **aliases}
    return {names.get(role, role) for role in roles}


class Masker:
    """Finds the turns of rendered conversations and decides what of them trains."""

    def __init__(
        self,
        roles: Sequence[str] | None,
        stops: Stops,
        aliases: Mapping[str, str] | None = None,
        *,
        last_only: bool = False,
        thinking_key: str = "reasoning_content",
    ) -> None:
        self._roles = None if roles is None else template_roles(roles, aliases or {})
        self._stops = stops
        self._last_only = last_only
        self._thinking_key = thinking_key

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
        finder = TurnFinder(text, messages, shape, self._stops, self._thinking_key)
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
            raise mixed(plain(text)[start:end])
