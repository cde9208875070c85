"""The first rows of each data set stand for all of it, so that a plan needs no prepared data.

All rows are counted, few are rendered; the rendered ones are repeated up to what the count says is
kept. A plan reads the result as it reads prepared data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.config.data import DatasetEntry
from tunesmith.data.cache import PreparedSplit
from tunesmith.data.holdout import HoldOut
from tunesmith.data.hub import SavedRows
from tunesmith.data.jsonrow import Row
from tunesmith.data.ledger import Account
from tunesmith.data.records import RowError
from tunesmith.data.samples import TokenSample
from tunesmith.data.sources import Location, open_rows
from tunesmith.data.stream import Split
from tunesmith.errors import DataError

COUNTED_ROWS = 1_000_000
"""Rows of a data set at which counting stops."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first rows of a data set that can be read, and how many rows there are.

    ``looked_at`` counts the broken rows among the first ones too. ``is_all`` is false where
    counting stopped early, at ``total``.
    """

    name: str
    rows: Sequence[Mapping[str, Any]]
    looked_at: int
    total: int
    is_all: bool

    @property
    def broken(self) -> int:
        """How many of the first rows cannot be read."""
        return self.looked_at - len(self.rows)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What stands for the prepared data in a plan; ``note`` says how far it is to be trusted."""

    train: Split
    held_out: Split | None
    note: str


class RepeatedSplit:
    """A prepared split of which row ``index[i]`` stands at ``i``."""

    def __init__(self, split: PreparedSplit, index: NDArray[np.int64]) -> None:
        self.lengths: NDArray[np.int32] = split.lengths[index]
        self.totals = {name: total[index] for name, total in split.totals.items()}
        self.datasets: NDArray[np.int64] = split.datasets[index]
        self.fingerprint = split.fingerprint
        self._split, self._index = split, index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, row: int) -> TokenSample:
        return self._split[int(self._index[row])]


def read_head(
    entry: DatasetEntry, number: int, location: Location, limit: int, *, count: bool
) -> Head:
    """The first ``limit`` rows of a data set; its other rows are counted if ``count`` asks for it.

    Raises:
        DataError: a file cannot be read.
    """
    found = (row for _, row in open_rows(entry, number, location))
    first = list(islice(found, limit))
    total, is_all = _count(location, found, len(first)) if count else (len(first), False)
    rows = [row for row in first if not isinstance(row, RowError)]
    return Head(entry.path, rows, len(first), total, is_all)


def estimate(
    train: PreparedSplit,
    held_out: PreparedSplit | None,
    accounts: Sequence[Account],
    heads: Sequence[Head],
    wanted: HoldOut,
) -> Estimate:
    """All the data, from the prepared first rows of each data set to train on, none held out.

    ``held_out`` are the rows of held-out data sets. ``accounts`` and ``heads`` are those of the
    training data sets, in order.

    Raises:
        DataError: everything would be held out.
    """
    parts, start, n_rows = [], 0, 0
    for account, head in zip(accounts, heads, strict=True):
        own = np.arange(start, start + account.samples)
        grown = head.total / max(1, head.looked_at)
        parts.append(np.resize(own, round(account.samples * grown)))
        n_rows += round(account.rows_trained * grown)
        start += account.samples
    index = np.concatenate(parts)
    n_held_out = _held_out_rows(wanted, n_rows, is_all=all(head.is_all for head in heads))
    is_held_out = np.zeros(len(index), dtype=np.bool_)
    drawn = np.random.default_rng(0).permutation(len(index))  # which ones decides no count
    is_held_out[drawn[: round(n_held_out * len(index) / max(1, n_rows))]] = True
    rest: Split | None = held_out
    if n_held_out:
        rest = RepeatedSplit(train, index[is_held_out])
    return Estimate(
        RepeatedSplit(train, index[~is_held_out]), rest, _note(heads, n_held_out, grown=True)
    )


def as_it_is(
    train: PreparedSplit, held_out: PreparedSplit | None, heads: Sequence[Head]
) -> Estimate:
    """The data sets are no longer than their first rows: those are the estimate."""
    return Estimate(train, held_out, _note(heads, 0, grown=False))


def _count(location: Location, rest: Iterator[Row | RowError], seen: int) -> tuple[int, bool]:
    """How many rows there are, ``seen`` and the ``rest``, and whether that is all of them."""
    if isinstance(location.saved, SavedRows) and location.selection.is_all:
        numbers = [
            part.take(partial(_numbers, data.num_rows)) for part, data in location.saved.parts
        ]
        return sum(1 for part in numbers for _ in part), True
    total = seen + sum(1 for _ in islice(rest, max(0, COUNTED_ROWS - seen)))
    return total, total < COUNTED_ROWS or next(rest, None) is None


def _numbers(n_rows: int) -> Iterator[int]:
    return iter(range(n_rows))


def _held_out_rows(wanted: HoldOut, n_rows: int, *, is_all: bool) -> int:
    """How many of ``n_rows`` are held out; where more rows were not counted, not the last one."""
    count = wanted.count(n_rows)
    if count < n_rows or n_rows == 0:
        return count
    if not is_all:
        return n_rows - 1
    raise DataError(
        f"`val_set_size: {wanted.size:g}` holds out all of about {n_rows:,} rows",
        hint="hold out less, or name held-out files in `test_datasets`",
        where="val_set_size",
    )


def _note(heads: Sequence[Head], n_held_out: int, *, grown: bool) -> str:
    notes = []
    if grown:
        looked_at, total = sum(h.looked_at for h in heads), sum(h.total for h in heads)
        notes.append(f"from the first {looked_at:,} of {total:,} rows")
    if n_held_out:
        notes.append(f"{n_held_out:,} are held out")
    for head in heads:
        name = f"{head.name}: " if len(heads) > 1 else ""
        if head.broken:
            notes.append(f"{name}{head.broken:,} of the first {head.looked_at:,} cannot be read")
        if not head.is_all:
            notes.append(f"{name}counting stopped at {head.total:,} rows")
    return "; ".join(notes)
