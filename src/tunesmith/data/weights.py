"""What the characters of a trained turn weigh in the loss."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.data.origin import UNKNOWN, Origin, Tracked, spans_of
from tunesmith.data.records import Message

WeightedSpan = tuple[int, int, float]
"""Half-open characters of a rendered text, and their weight above 0."""


def weigh_body(text: Tracked, start: int, end: int, message: Message) -> list[WeightedSpan]:
    """The trained spans of a turn's body, which stands from ``start`` to ``end``.

    The template's own text inside a body weighs as the text beside it; between two texts, as the
    lighter one.
    """
    if not message.spans:
        return [(start, end, message.weight)] if message.weight > 0 else []
    pieces = [
        (max(low, start), min(high, end), _own_weight(origin, message))
        for low, high, origin in spans_of(text)
        if low < end and start < high
    ]
    weights = _filled([weight for _, _, weight in pieces])
    return [
        (low, high, weight)
        for (low, high, _), weight in zip(pieces, weights, strict=True)
        if weight > 0
    ]


def _own_weight(origin: Origin | None, message: Message) -> float | None:
    """What text of this origin weighs; None for the template's own.

    Text of unknown origin may belong to a span that trains: it counts as trained, and is refused.
    """
    if origin is None:
        return None
    if origin == UNKNOWN:
        return message.weight
    return message.spans[origin.part - 1].weight * message.weight if origin.part else 0.0


def _filled(weights: Sequence[float | None]) -> list[float]:
    """The weights with the lighter of its neighbours in the place of each None."""
    filled: list[float] = []
    for left, weight, right in zip([None, *weights], weights, [*weights[1:], None], strict=False):
        beside = [near for near in (left, right) if near is not None]
        filled.append(min(beside, default=0.0) if weight is None else weight)
    return filled


def merge_spans(spans: Sequence[WeightedSpan]) -> tuple[WeightedSpan, ...]:
    """The spans in order, those of one weight that touch joined, empty ones left out."""
    merged: list[WeightedSpan] = []
    for start, end, weight in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1] and weight == merged[-1][2]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]), weight)
        else:
            merged.append((start, end, weight))
    return tuple(merged)
