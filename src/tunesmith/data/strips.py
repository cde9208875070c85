"""Samples laid out on one strip of tokens, as files hold them, and picked up again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.samples import (
    JudgedSample,
    PairSample,
    SampleKind,
    StepSample,
    TokenSample,
    TrainedSample,
)


@dataclass(frozen=True, slots=True)
class Strip:
    """The documents of a sample end to end.

    ``ids`` int32 [n] and ``runs`` (start, end, weight) go over all of them; ``sizes`` are the
    documents' lengths (empty for a plain sample). The ends of steps are runs of one token that
    weigh 1 where the step is right and -1 where it is not. ``label``: is a judged answer wanted?
    """

    ids: NDArray[np.int32]
    runs: tuple[tuple[int, int, float], ...]
    source: str
    sizes: tuple[int, ...] = ()
    label: bool = False


def lay_out(sample: TrainedSample) -> Strip:
    """The sample as one strip."""
    if isinstance(sample, TokenSample):
        return Strip(sample.input_ids, sample.runs, sample.source)
    if isinstance(sample, StepSample):
        runs = tuple((end, end + 1, 1.0 if right else -1.0) for end, right in sample.ends)
        return Strip(sample.input_ids, runs, sample.source, (len(sample),))
    documents = sample.documents
    return Strip(
        np.concatenate([document.input_ids for document in documents]),
        tuple(_shifted(documents)),
        sample.source,
        tuple(map(len, documents)),
        isinstance(sample, JudgedSample) and sample.is_good,
    )


def pick_up(strip: Strip, kind: SampleKind) -> TrainedSample:
    """The sample that was laid out."""
    if kind == "tokens":
        return TokenSample(strip.ids, strip.runs, strip.source)
    if kind == "steps":
        ends = tuple((start, weight > 0) for start, _, weight in strip.runs)
        return StepSample(strip.ids, ends, strip.source)
    first, *others = _cut(strip)
    if kind == "pairs":
        return PairSample(first, *others)
    return JudgedSample(first, strip.label)


def _shifted(documents: tuple[TokenSample, ...]) -> Iterator[tuple[int, int, float]]:
    """The runs of all documents, counted from the beginning of the first."""
    start = 0
    for document in documents:
        yield from ((start + a, start + b, weight) for a, b, weight in document.runs)
        start += len(document)


def _cut(strip: Strip) -> Iterator[TokenSample]:
    start = 0
    for size in strip.sizes:
        end = start + size
        runs = tuple((a - start, b - start, w) for a, b, w in strip.runs if start <= a < end)
        yield TokenSample(strip.ids[start:end], runs, strip.source)
        start = end
