"""From trained characters to trained tokens, and what is said about each token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.encode import Encoded
from tunesmith.data.masking import Mask
from tunesmith.data.origin import Origin, Tracked, plain, spans_of
from tunesmith.data.records import Lint, Message

NO_TARGET = "nothing predicts the first token"


@dataclass(frozen=True, slots=True)
class TokenView:
    """One token as ``preprocess --show`` prints it.

    ``message`` is the number of the turn that its first character came from, None for text of the
    template, of tools, or of a row without turns; ``field`` is the turn's key, ``template``, or the
    kind of piece. ``reason`` says why it trains or does not.
    """

    text: str
    id: int
    weight: float
    message: int | None
    role: str
    field: str
    reason: str


def train_tokens(
    encoded: Encoded, spans: Iterable[tuple[int, int]], n_characters: int
) -> NDArray[np.bool_]:
    """Whether each token trains, bool [n]: only where all of its characters do.

    A token without characters of its own trains inside a span, not at its start.
    """
    flags = np.zeros(n_characters + 1, dtype=np.int64)
    for start, end in spans:
        flags[start:end] = 1
    total = np.concatenate([[0], np.cumsum(flags)])
    starts, ends = encoded.offsets[:, 0], encoded.offsets[:, 1]
    covered = (total[ends] - total[starts] == ends - starts) & (ends > starts)
    inside = (flags[starts] == 1) & (starts > 0) & (flags[np.maximum(starts - 1, 0)] == 1)
    trained: NDArray[np.bool_] = covered | ((ends == starts) & inside)
    return trained


def runs_of_weights(trained: NDArray[np.bool_]) -> tuple[tuple[int, int, float], ...]:
    """The trained tokens as (start, end, 1.0); the first token is no target."""
    flags = np.concatenate([[False], trained[1:], [False]])
    edges = np.flatnonzero(flags[1:] != flags[:-1]) + 1
    return tuple((int(start), int(end), 1.0) for start, end in edges.reshape(-1, 2))


def straddles(text: Tracked, encoded: Encoded, mask: Mask) -> Iterator[Lint]:
    """A finding for each token that reaches over a body's start; it does not train."""
    starts, ends = encoded.offsets[:, 0], encoded.offsets[:, 1]
    for turn in mask.turns:
        if not turn.trains:
            continue
        for at in np.flatnonzero((starts < turn.start) & (ends > turn.start)):
            token = plain(text)[starts[at] : ends[at]]
            yield Lint(
                "straddling-token",
                f"messages[{turn.message}]: the token {token!r} reaches over the start of the "
                "turn's body and does not train",
            )


def view_turns(
    text: Tracked,
    encoded: Encoded,
    mask: Mask,
    messages: Sequence[Message],
    text_of: Callable[[int], str],
) -> list[TokenView]:
    """Every token of a rendered conversation with its origin and the reason of its weight."""
    trained = train_tokens(encoded, mask.spans, len(text))
    origins: list[Origin | None] = [
        origin for start, end, origin in spans_of(text) for _ in range(end - start)
    ]
    whole = plain(text)
    views = []
    told = 0  # a character of several tokens is told once, with the first of them
    for number, (token, (start, end)) in enumerate(
        zip(encoded.ids.tolist(), encoded.offsets.tolist(), strict=True)
    ):
        origin = origins[start] if end > start else None
        message = origin.message if origin is not None and origin.message >= 0 else None
        trains = bool(trained[number]) and number > 0
        views.append(
            TokenView(
                whole[max(start, told) : end] if end > start else text_of(token),
                token,
                float(trains),
                message,
                "" if message is None else messages[message].role,
                "template" if origin is None else origin.field,
                _reason(number, start, end, mask, trains=trains),
            )
        )
        told = max(told, end)
    return views


def _reason(number: int, start: int, end: int, mask: Mask, *, trains: bool) -> str:
    stops = [(stop, turn) for turn in mask.turns for stop in turn.stops]
    in_stop = any(stop.start <= start < stop.end for stop, _ in stops)
    if trains:
        return "end of turn" if in_stop else "body of a trained turn"
    if number == 0:
        return NO_TARGET
    if any(start < high and low < end for low, high in mask.spans):
        return "reaches over a body's border"
    if in_stop:
        return "an end of turn that does not train"
    if any(turn.first <= start < turn.end for turn in mask.turns):
        return "a turn that does not train"
    return "template text outside of bodies"
