"""Which rows train and which are held out, by content alone: equal on every machine. Pure.

A row is known by the 16-byte digest of its tokens and weights. Equal rows have equal digests, so
that they always land on the same side: nothing that is held out is also trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.samples import TokenSample
from tunesmith.errors import DataError

Digests = NDArray[np.void]
"""[R] digests of rows, as opaque 16-byte items."""

DIGEST_SIZE = 16


def row_digest(samples: Iterable[TokenSample]) -> bytes:
    """The digest of a row's samples: their ids and weights, not where they came from."""
    digest = blake2b(digest_size=DIGEST_SIZE)
    for sample in samples:
        digest.update(len(sample).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(sample.input_ids, dtype="<i4").tobytes())
        digest.update(np.asarray(sample.runs, dtype="<f8").tobytes())
    return digest.digest()


def as_digests(data: bytes | bytearray) -> Digests:
    """Digests laid end to end, as an array."""
    return np.frombuffer(bytes(data), dtype=np.dtype((np.void, DIGEST_SIZE)))


def first_of_each(digests: Digests) -> NDArray[np.bool_]:
    """True for the first row with each digest, false for its later copies."""
    is_first = np.zeros(len(digests), dtype=np.bool_)
    is_first[np.unique(digests, return_index=True)[1]] = True
    return is_first


@dataclass(frozen=True, slots=True)
class HoldOut:
    """How much is held out: a share below 1 or a number of rows, drawn with ``seed``."""

    size: float
    seed: int

    def count(self, n_rows: int) -> int:
        """The number of rows to hold out of ``n_rows``."""
        return math.ceil(self.size * n_rows) if self.size < 1 else int(self.size)


def choose_held_out(digests: Digests, wanted: HoldOut) -> NDArray[np.bool_]:
    """True for the rows that are held out.

    The digests are ranked by their hash keyed with the seed and taken from the front, all copies of
    a row together: the count is exact, or more by the copies of the last row taken.

    Raises:
        DataError: nothing would be left to train on.
    """
    count = wanted.count(len(digests))
    if count == 0 or len(digests) == 0:  # that no row is left is told by the ledger, not here
        return np.zeros(len(digests), dtype=np.bool_)
    distinct, group, copies = np.unique(digests, return_inverse=True, return_counts=True)
    key = wanted.seed.to_bytes(16, "little", signed=True)
    ranks = [blake2b(digest.tobytes(), digest_size=16, key=key).digest() for digest in distinct]
    order = np.array(sorted(range(len(distinct)), key=ranks.__getitem__), dtype=np.int64)
    before = np.cumsum(copies[order]) - copies[order]
    chosen = np.zeros(len(distinct), dtype=np.bool_)
    chosen[order[before < count]] = True
    held_out: NDArray[np.bool_] = chosen[group]
    if held_out.all():
        raise DataError(
            f"`val_set_size: {wanted.size:g}` holds out all {len(digests)} rows",
            hint="hold out less, or name held-out files in `test_datasets`",
            where="val_set_size",
        )
    return held_out
