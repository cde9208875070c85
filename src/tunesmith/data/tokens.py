"""From trained characters to trained tokens, and what is said about each token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.encode import Encoded
from tunesmith.data.masking import Mask
from tunesmith.data.origin import Origin, Tracked, plain, spans_of
from tunesmith.data.records import Lint, Message
from tunesmith.data.weights import WeightedSpan

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


def weigh_tokens(
    encoded: Encoded, spans: Iterable[WeightedSpan], n_characters: int
) -> NDArray[np.float64]:
    """The weight of each token, float64 [n]: that of its lightest character.

    So a token trains only where all of its characters do. One without characters of its own trains
    inside a span, not at its start.
    """
    if not len(encoded.ids):
        return np.zeros(0)
    weights = np.zeros(n_characters + 1)
    for start, end, weight in spans:
        weights[start:end] = weight
    starts, ends = encoded.offsets[:, 0], encoded.offsets[:, 1]
    lightest = np.minimum.reduceat(weights, encoded.offsets.ravel())[::2]
    before = np.where(starts > 0, weights[np.maximum(starts - 1, 0)], 0.0)
    weighed: NDArray[np.float64] = np.where(ends > starts, lightest, np.minimum(lightest, before))
    return weighed


def runs_of_weights(weights: NDArray[np.float64] | NDArray[np.bool_]) -> tuple[WeightedSpan, ...]:
    """The tokens that train as (start, end, weight); the first token is no target."""
    values = np.concatenate([[0.0], weights[1:], [0.0]])
    edges = np.flatnonzero(values[1:] != values[:-1]) + 1
    return tuple(
        (int(start), int(end), float(values[start]))
        for start, end in pairwise(edges)
        if values[start] > 0
    )


def straddles(text: Tracked, encoded: Encoded, mask: Mask) -> Iterator[Lint]:
    """A finding for each token that holds both what trains of a turn and what does not.

    It does not train.
    """
    starts, ends = encoded.offsets[:, 0], encoded.offsets[:, 1]
    borders = {start for start, _, _ in mask.spans} ^ {end for _, end, _ in mask.spans}
    for turn in mask.turns:
        for border in sorted(at for at in borders if turn.start <= at < turn.end):
            place = "the start of the turn's body" if border == turn.start else "a span's border"
            for at in np.flatnonzero((starts < border) & (ends > border)):
                token = plain(text)[starts[at] : ends[at]]
                yield Lint(
                    "straddling-token",
                    f"turn {turn.message + 1}: the token {token!r} reaches over {place} and does "
                    "not train",
                )


def view_turns(
    text: Tracked,
    encoded: Encoded,
    mask: Mask,
    messages: Sequence[Message],
    text_of: Callable[[int], str],
) -> list[TokenView]:
    """Every token of a rendered conversation with its origin and the reason of its weight."""
    weights = weigh_tokens(encoded, mask.spans, len(text))
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
        weight = float(weights[number]) if number else 0.0
        views.append(
            TokenView(
                whole[max(start, told) : end] if end > start else text_of(token),
                token,
                weight,
                message,
                "" if message is None else messages[message].role,
                "template" if origin is None else origin.field,
                _reason(number, start, end, mask, trains=weight > 0),
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
    if any(start < high and low < end for low, high, _ in mask.spans):
        return "reaches over a border of what trains"
    if in_stop:
        return "an end of turn that does not train"
    for turn in mask.turns:
        if turn.first <= start < turn.end:
            return "a part that does not train" if turn.trains else "a turn that does not train"
    return "template text outside of bodies"
