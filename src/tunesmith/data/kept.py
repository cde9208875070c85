"""The rows that are kept: a few numbers each, from which both sides and the ledger are made."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.holdout import (
    DIGEST_SIZE,
    Digests,
    HoldOut,
    as_digests,
    choose_held_out,
    first_of_each,
    row_digest,
)
from tunesmith.data.ledger import Account, Ledger
from tunesmith.data.records import Lint, Source
from tunesmith.data.samples import TokenSample

_COPY = "equal to an earlier row"
_LEAK = "equal to a held-out row"
_OTHER_SHARD = "in another shard of the run"


ROW = np.dtype(
    [
        ("digest", f"V{DIGEST_SIZE}"),
        ("samples", "<i4"),
        ("file", "<i4"),
        ("row", "<i8"),
        ("trained", "<i8"),
        ("tokens", "<i8"),
    ]
)
"""A kept row in 48 bytes: content, number of samples, place, trained and all tokens."""

Rows = NDArray[np.void]
"""[R] of ``ROW``."""


class RowWriter:
    """Collects the kept rows of a part of one data set; ``files`` are numbered as they come."""

    def __init__(self) -> None:
        self._digests = bytearray()
        self._numbers = {name: array("q") for name in ROW.names or () if name != "digest"}
        self.files: dict[str, int] = {}

    def add(self, source: Source, samples: Sequence[TokenSample]) -> None:
        """Note a row of which these samples are kept."""
        self._digests += row_digest(samples)
        values = {
            "samples": len(samples),
            "file": self.files.setdefault(source.file, len(self.files)),
            "row": source.row,
            "trained": sum(sample.n_trained for sample in samples),
            "tokens": sum(map(len, samples)),
        }
        for name, value in values.items():
            self._numbers[name].append(value)

    def rows(self) -> Rows:
        """All of them."""
        found: Rows = np.empty(len(self._numbers["row"]), dtype=ROW)
        found["digest"] = as_digests(self._digests)
        for name, values in self._numbers.items():
            found[name] = np.asarray(values)
        return found


@dataclass(frozen=True, slots=True)
class KeptRows:
    """The kept rows of all data sets: R rows, the data set of each, and the files' names."""

    rows: Rows
    datasets: NDArray[np.int32]
    files: Sequence[str]

    @property
    def digests(self) -> Digests:
        """[R] what each row is."""
        digests: Digests = self.rows["digest"]
        return digests

    def places(self, numbers: NDArray[np.int64]) -> list[str]:
        """``file:row`` of each of these rows."""
        rows = self.rows[numbers]
        pairs = zip(rows["file"].tolist(), rows["row"].tolist(), strict=True)
        return [f"{self.files[file]}:{row}" for file, row in pairs]


@dataclass(frozen=True, slots=True)
class Sides:
    """For each of R rows: does it train, is it held out, and why is it dropped otherwise."""

    train: NDArray[np.bool_]
    held_out: NDArray[np.bool_]
    dropped: dict[str, NDArray[np.bool_]]

    def samples(self, side: NDArray[np.bool_], kept: KeptRows) -> NDArray[np.int64]:
        """The numbers of the samples of one side's rows, in order."""
        return np.flatnonzero(np.repeat(side, kept.rows["samples"]))


def choose_sides(
    kept: KeptRows,
    is_test: NDArray[np.bool_],
    wanted: HoldOut,
    *,
    drop_copies: bool,
    shard: tuple[int, int] = (0, 1),
) -> Sides:
    """Which side each row is on. ``is_test`` marks the rows of held-out data sets.

    ``shard`` (number, of how many) takes an unbroken part of the training rows, before any is held
    out. With ``drop_copies`` a row that equals an earlier one of its side is dropped, and a
    training row that equals a held-out one as well.

    Raises:
        DataError: everything would be held out.
    """
    digests = kept.digests
    copies, leaks = _copies(digests, is_test), np.zeros(len(digests), dtype=np.bool_)
    left = ~copies if drop_copies else np.ones(len(digests), dtype=np.bool_)
    elsewhere = _outside(np.flatnonzero(left & ~is_test), shard, len(digests))
    left = left & ~elsewhere
    held_out = left & is_test
    candidates = np.flatnonzero(left & ~is_test)
    held_out[candidates] = choose_held_out(digests[candidates], wanted)
    if drop_copies:
        leaks = left & ~held_out & np.isin(_groups(digests), _groups(digests)[held_out])
    dropped = {_COPY: copies & drop_copies, _LEAK: leaks, _OTHER_SHARD: elsewhere}
    return Sides(left & ~held_out & ~leaks, held_out, dropped)


def note_copies(kept: KeptRows, sides: Sides, is_test: NDArray[np.bool_], ledger: Ledger) -> None:
    """Note rows that stand twice on a side, and training rows that are also held out."""
    digests = kept.digests
    used = sides.train | sides.held_out
    groups = _groups(digests)
    copies = np.flatnonzero(_copies(digests, is_test) & used)
    leaks = np.flatnonzero(sides.train & np.isin(groups, groups[sides.held_out]))
    for place in kept.places(copies):
        ledger.note(Lint("duplicate-row", "equals an earlier row", place))
    for place in kept.places(leaks):
        ledger.note(Lint("held-out-row", "trains and is also held out", place))


def settle(kept: KeptRows, sides: Sides, ledger: Ledger) -> None:
    """Book every kept row and its tokens on the side where it ended."""
    datasets, samples = kept.datasets, kept.rows["samples"]
    tokens, trained = kept.rows["tokens"], kept.rows["trained"]
    for number, account in enumerate(ledger.accounts):
        train = sides.train & (datasets == number)
        held_out = sides.held_out & (datasets == number)
        account.rows_trained = int(train.sum())
        account.rows_held_out = int(held_out.sum())
        account.tokens_trained = int(trained[train].sum())
        account.tokens_masked = int((tokens - trained)[train].sum())
        account.tokens_held_out = int(tokens[held_out].sum())
        account.samples = int(samples[train | held_out].sum())
        for reason, rows in sides.dropped.items():
            _book_dropped(account, reason, np.flatnonzero(rows & (datasets == number)), kept)


def _book_dropped(
    account: Account, reason: str, numbers: NDArray[np.int64], kept: KeptRows
) -> None:
    for number, place in zip(numbers.tolist(), kept.places(numbers), strict=True):
        account.drop_row(reason, place)
        account.drop_tokens(reason, int(kept.rows["tokens"][number]))


def _copies(digests: NDArray[np.void], is_test: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True for a row that equals an earlier one among the data sets of its kind."""
    copies = np.zeros(len(digests), dtype=np.bool_)
    for kind in (is_test, ~is_test):
        numbers = np.flatnonzero(kind)
        copies[numbers] = ~first_of_each(digests[numbers])
    return copies


def _groups(digests: NDArray[np.void]) -> NDArray[np.int64]:
    """A number for each row, equal where the rows are."""
    groups: NDArray[np.int64] = np.unique(digests, return_inverse=True)[1]
    return groups


def _outside(numbers: NDArray[np.int64], shard: tuple[int, int], n_rows: int) -> NDArray[np.bool_]:
    """True for those of the rows ``numbers`` that are in another shard (as ``Dataset.shard``)."""
    outside = np.zeros(n_rows, dtype=np.bool_)
    for other, part in enumerate(np.array_split(numbers, shard[1])):
        outside[part] = other != shard[0]
    return outside
