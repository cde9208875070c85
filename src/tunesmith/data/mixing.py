"""How often an epoch draws the samples of each data set, and in which order: pure.

A data set's samples form an endless sequence: all of them, then all of them again, each time
permuted where the data is shuffled. Every epoch takes the next stretch of it, so that over the
epochs the counts of two samples of a data set never differ by more than one. A random number
decides which, never how many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.packing import Ints, derive_key, permutation

Until = Literal["first_exhausted", "all_exhausted"]


@dataclass(frozen=True, slots=True)
class Share:
    """What one data set is given: ``repeats`` of its rows an epoch, and a ``weight`` if any has."""

    repeats: float = 1.0
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Mixture:
    """The shares of the data sets, in the config's order.

    With weights an epoch ends when the first data set was seen ``repeats`` times, or when the last
    was (``all_exhausted``); the others are seen more or less often, as their weights ask.
    ``shuffle_within`` permutes each data set and keeps them one after the other; ``interleave``
    spreads each evenly over the epoch.
    """

    shares: tuple[Share, ...] = ()
    until: Until = "first_exhausted"
    shuffle_within: bool = False
    interleave: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether an epoch is every sample once, in the order of the data."""
        alone = all(share == Share() for share in self.shares)
        return alone and not self.shuffle_within and not self.interleave


PLAIN = Mixture()
"""Every sample once an epoch."""


def quotas(sizes: Sequence[int], mixture: Mixture) -> list[float]:
    """How many samples of each data set an epoch draws; a fraction is carried to the next epoch."""
    whole = [size * share.repeats for size, share in zip(sizes, mixture.shares, strict=True)]
    if all(share.weight is None for share in mixture.shares):
        return whole
    weights = [1.0 if share.weight is None else share.weight for share in mixture.shares]
    totals = [count / weight for count, weight in zip(whole, weights, strict=True) if count]
    if not totals:
        return whole
    total = min(totals) if mixture.until == "first_exhausted" else max(totals)
    return [total * weight if count else 0.0 for count, weight in zip(whole, weights, strict=True)]


def draw_epoch(
    datasets: NDArray[np.int64], mixture: Mixture, *, epoch: int, key: int, shuffle: bool
) -> Ints:
    """The samples of an epoch: their numbers, data set after data set, or interleaved.

    ``datasets`` is the data set of each of N samples. ``key`` comes from (fingerprint, seed) and
    not from the epoch. With ``shuffle`` which part of a data set comes first is drawn as well.
    """
    parts = []
    own = [np.flatnonzero(datasets == number) for number in range(len(mixture.shares))]
    asked = quotas([len(numbers) for numbers in own], mixture)
    permutes = shuffle or mixture.shuffle_within
    for number, (samples, quota) in enumerate(zip(own, asked, strict=True)):
        # 0.1 * 30 must not lose a sample to the last bit of its product.
        start, stop = math.floor(epoch * quota + 1e-9), math.floor((epoch + 1) * quota + 1e-9)
        own_key = derive_key("draw", key, number) if permutes else None
        parts.append(_stretch(samples, start, stop, own_key))
    if mixture.interleave:
        return _interleaved(parts)
    return np.concatenate(parts)


def _stretch(samples: Ints, start: int, stop: int, key: int | None) -> Ints:
    """Places ``start`` to ``stop`` of the endless sequence of these samples."""
    size = len(samples)
    if size == 0 or stop == start:
        return np.empty(0, dtype=np.int64)
    rounds = []
    for turn in range(start // size, (stop - 1) // size + 1):
        order = samples
        if key is not None:
            order = samples[permutation(size, derive_key("turn", key, turn))]
        rounds.append(order[max(start - turn * size, 0) : stop - turn * size])
    return np.concatenate(rounds)


def _interleaved(parts: Sequence[Ints]) -> Ints:
    """All parts merged, each of them spread evenly and in its own order."""
    places = [(np.arange(len(part)) + 0.5) / max(len(part), 1) for part in parts]
    # A tie goes to the data set that is named first.
    numbers = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    order = np.lexsort((numbers, np.concatenate(places)))
    merged: Ints = np.concatenate(parts)[order]
    return merged
