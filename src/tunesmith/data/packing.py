"""Lengths become bins: pure, deterministic, the same on every platform.

The shapes of an epoch's bins follow from the histogram of lengths alone; which document fills which
place, and in what order the bins come, follows from a key. So every epoch has the same number of
bins (unless documents must stay in order), and the number of steps is known before the start.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunesmith.errors import DataError

Ints = NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True, slots=True)
class PackingRule:
    """How documents share a bin.

    ``capacity`` is in tokens. ``packed`` off means one document a bin. ``in_order`` packs only
    neighbours of the (shuffled or given) order. ``max_documents`` bounds the documents of a bin.
    ``group`` packs so many rows of the order at a time (None: all of them together).
    """

    capacity: int
    packed: bool = True
    shuffle: bool = True
    in_order: bool = False
    max_documents: int | None = None
    group: int | None = None

    def fits_together(self, n_rows: int) -> bool:
        """Whether best-fit sees all rows at once, so that the shapes are those of every epoch."""
        return self.packed and not self.in_order and (self.group or n_rows) >= n_rows


@dataclass(frozen=True, slots=True)
class Shapes:
    """The bins of an epoch as lengths only: bin b holds ``lengths[offsets[b]:offsets[b + 1]]``."""

    offsets: Ints
    lengths: Ints


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """The bins of an epoch, in order: bin b holds rows ``members[offsets[b]:offsets[b + 1]]``."""

    offsets: Ints
    members: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def bins(self, start: int, stop: int) -> list[Ints]:
        """The rows of each bin in ``[start, stop)``; bins beyond the last are left out."""
        stop = min(stop, len(self))
        return [self.members[self.offsets[b] : self.offsets[b + 1]] for b in range(start, stop)]

    def rows(self, start: int, stop: int) -> Ints:
        """All rows of the bins in ``[start, stop)``, in order."""
        stop = min(stop, len(self))
        return self.members[self.offsets[start] : self.offsets[stop]]


def derive_key(*parts: str | int) -> int:
    """A 64-bit key from any words and numbers (BLAKE2b of them, separated unambiguously)."""
    text = "".join(f"{type(part).__name__}{len(str(part))}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def permutation(n: int, key: int) -> Ints:
    """A permutation of ``range(n)`` that depends on ``n`` and the 64-bit ``key`` alone.

    Each index gets the ``index``-th number of a SplitMix64 sequence that starts at ``key``
    (Steele et al. 2014, doi:10.1145/2660193.2660195); the order of those numbers is the
    permutation. Integer arithmetic and a stable sort, so no library version can change it.
    """
    draws = np.arange(1, n + 1, dtype=np.uint64)
    draws *= _GOLDEN
    draws += np.uint64(key & 0xFFFFFFFFFFFFFFFF)
    draws = (draws ^ (draws >> np.uint64(30))) * _MIX_1
    draws = (draws ^ (draws >> np.uint64(27))) * _MIX_2
    draws ^= draws >> np.uint64(31)
    return np.argsort(draws, kind="stable").astype(np.int64)


def pack_shapes(lengths: NDArray[np.int32], rule: PackingRule) -> Shapes:
    """The shapes of best-fit-decreasing bins, from the histogram of ``lengths``.

    Bins with the same content are handled together, so that the work grows with the number of
    *different* lengths, not with the number of documents.
    """
    counts = np.bincount(lengths, minlength=rule.capacity + 1)
    groups = _best_fit(counts, rule.capacity, rule.max_documents or len(lengths) or 1)
    rows = [np.asarray(shape, dtype=np.int64) for shape, _ in groups]
    times = np.asarray([count for _, count in groups], dtype=np.int64)
    sizes = np.repeat(np.asarray([len(row) for row in rows], dtype=np.int64), times)
    flat = [np.tile(row, count) for row, (_, count) in zip(rows, groups, strict=True)]
    offsets = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64))).astype(np.int64)
    return Shapes(offsets, np.concatenate(flat) if flat else np.empty(0, dtype=np.int64))


def plan_epoch(
    lengths: NDArray[np.int32],
    rule: PackingRule,
    *,
    key: int,
    shapes: Shapes | None = None,
) -> EpochPlan:
    """The bins of one epoch, a pure function of its arguments.

    ``key`` comes from ``derive_key(fingerprint, seed, epoch)``. ``shapes`` may carry the result of
    ``pack_shapes`` from epoch to epoch. Raises ``DataError`` for a row that no bin can hold.
    """
    check_lengths(lengths, rule.capacity)
    n = len(lengths)
    order = permutation(n, derive_key("rows", key)) if rule.shuffle else np.arange(n)
    if not rule.packed:
        return EpochPlan(np.arange(n + 1, dtype=np.int64), order)
    if rule.in_order:
        return _next_fit(lengths, order, rule)
    if rule.fits_together(n):
        plan = _fill(shapes or pack_shapes(lengths, rule), lengths, order)
    else:
        plan = _fill_groups(lengths, order, rule)
    if rule.shuffle:
        return _take_bins(plan, permutation(len(plan), derive_key("bins", key)))
    # Best-fit leaves the bins by shape; without a shuffle they come by their first row instead.
    first = np.minimum.reduceat(plan.members, plan.offsets[:-1]) if n else plan.members
    return _take_bins(plan, np.argsort(first, kind="stable"))


def check_lengths(lengths: NDArray[np.int32], capacity: int) -> None:
    """Raise ``DataError`` for the first row that is empty or longer than ``capacity``."""
    wrong = np.flatnonzero((lengths > capacity) | (lengths < 1))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"prepared row {row} has {int(lengths[row])} tokens; "
            f"a row holds 1 to {capacity} ({len(wrong)} such rows)",
            hint="prepare the data again with the same sequence_len, or raise sequence_len",
        )


def group_by_length(
    plan: EpochPlan, lengths: NDArray[np.int32], *, step_bins: int, key: int
) -> EpochPlan:
    """The same bins, arranged so that the bins of a step have similar lengths.

    Windows of fifty steps are sorted by length, longest first; then the full steps are permuted, so
    that length does not follow time. The short last step keeps its place.
    """
    sizes = np.add.reduceat(lengths[plan.members].astype(np.int64), plan.offsets[:-1])
    window = np.arange(len(plan)) // (50 * step_bins)
    order = np.lexsort((np.arange(len(plan)), -sizes, window))
    n_full = len(plan) // step_bins
    steps = permutation(n_full, derive_key("steps", key))
    full = order[: n_full * step_bins].reshape(n_full, step_bins)[steps].reshape(-1)
    return _take_bins(plan, np.concatenate((full, order[n_full * step_bins :])))


def _best_fit(counts: Ints, capacity: int, max_documents: int) -> list[tuple[list[int], int]]:
    """(lengths of a bin, number of such bins); longest documents first, tightest bin first."""
    open_groups: dict[int, deque[tuple[list[int], int]]] = {}
    rooms = 0  # bit r is set where bins with r free tokens exist: finds the tightest in one step
    closed: list[tuple[list[int], int]] = []
    for length in np.flatnonzero(counts)[::-1].tolist():
        left = int(counts[length])
        while left:
            fitting = rooms >> length
            if fitting:
                room = length + (fitting & -fitting).bit_length() - 1
                group, count = open_groups[room].pop()
                if not open_groups[room]:
                    rooms &= ~(1 << room)
            else:
                group, count, room = [], left, capacity
            each = min(room // length, max_documents - len(group), left)
            used = min(count, left // each)
            left -= used * each
            grown = group + [length] * each
            changed = [(grown, used, room - each * length)]
            if group and used < count:
                changed.append((group, count - used, room))
            for shape, times, free in changed:
                if free and len(shape) < max_documents:
                    open_groups.setdefault(free, deque()).append((shape, times))
                    rooms |= 1 << free
                else:
                    closed.append((shape, times))
    return closed + [group for free in sorted(open_groups) for group in open_groups[free]]


def _fill(shapes: Shapes, lengths: NDArray[np.int32], order: Ints) -> EpochPlan:
    """Put rows into the places of their length: the k-th place gets the k-th such row of order."""
    rows = order[np.argsort(lengths[order], kind="stable")]
    places = np.argsort(shapes.lengths, kind="stable")
    members = np.empty_like(rows)
    members[places] = rows
    return EpochPlan(shapes.offsets, members)


def _fill_groups(lengths: NDArray[np.int32], order: Ints, rule: PackingRule) -> EpochPlan:
    """The bins of each group of neighbours in the order, one group after the other."""
    size = rule.group or len(order)
    offsets, members, start = [np.zeros(1, dtype=np.int64)], [], 0
    for first in range(0, len(order), size):
        group = order[first : first + size]
        plan = _fill(pack_shapes(lengths[group], rule), lengths, group)
        offsets.append(plan.offsets[1:] + start)
        members.append(plan.members)
        start += len(group)
    return EpochPlan(np.concatenate(offsets), np.concatenate(members))


def _next_fit(lengths: NDArray[np.int32], order: Ints, rule: PackingRule) -> EpochPlan:
    """Consecutive rows of ``order`` share a bin while they fit."""
    ends = np.concatenate(([0], np.cumsum(lengths[order], dtype=np.int64)))
    following = np.searchsorted(ends, ends[:-1] + rule.capacity, side="right") - 1
    if rule.max_documents is not None:
        following = np.minimum(following, np.arange(len(order)) + rule.max_documents)
    jumps = following.tolist()
    offsets = [0]
    while offsets[-1] < len(order):
        offsets.append(jumps[offsets[-1]])
    return EpochPlan(np.asarray(offsets, dtype=np.int64), order)


def _take_bins(plan: EpochPlan, bins: Ints) -> EpochPlan:
    """The plan's bins in the order ``bins``."""
    sizes = np.diff(plan.offsets)[bins]
    offsets = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
    shift = np.repeat(plan.offsets[:-1][bins] - offsets[:-1], sizes)
    return EpochPlan(offsets, plan.members[np.arange(offsets[-1]) + shift])
