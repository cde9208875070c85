"""Which rows of a data set are used: some left out at the start, one part of many, at most so many.

Decided by numbers alone, so that it is the same wherever the rows come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import compress, islice
from typing import TypeVar

import numpy as np

from tunesmith.config.data import DatasetEntry
from tunesmith.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Selection:
    """Without the first ``skip`` rows, part ``shard`` of ``shards``, and at most ``most`` of it."""

    skip: int = 0
    shard: int = 0
    shards: int = 1
    most: int | None = None
    seed: int = 42

    @classmethod
    def of(cls, entry: DatasetEntry, seed: int) -> Selection:
        """What an entry asks for.

        Raises:
            DataError: there is no such part.
        """
        shards = entry.shards or 1
        if entry.shards_idx >= shards:
            raise DataError(
                f"`shards_idx: {entry.shards_idx}` is none of {shards} shards",
                hint=f"it goes from 0 to {shards - 1}",
                where=entry.path,
            )
        return cls(entry.skip or 0, entry.shards_idx, shards, entry.max_samples, seed)

    @property
    def is_all(self) -> bool:
        """Whether every row is used."""
        return self.skip == 0 and self.shards == 1 and self.most is None

    def keys(self) -> tuple[str, ...]:
        """The keys of the entry that may leave out rows, as they are written."""
        part = f"shards_idx: {self.shard} of shards: {self.shards}"
        named = {
            f"skip: {self.skip}": self.skip > 0,
            part: self.shards > 1,
            f"max_samples: {self.most}": self.most is not None,
        }
        return tuple(key for key, leaves_out in named.items() if leaves_out)

    def take(self, open_rows: Callable[[], Iterator[T]]) -> Iterator[T]:
        """The selected ones of the rows that ``open_rows`` gives, in order; they may be read twice.

        A part is drawn as ``Dataset.shuffle(seed).shard(...)`` draws it.
        """
        rows: Iterator[T] = islice(open_rows(), self.skip, None)
        if self.shards > 1:
            n_rows = sum(1 for _ in islice(open_rows(), self.skip, None))
            drawn = np.random.default_rng(self.seed).permutation(n_rows)
            is_taken = np.zeros(n_rows, dtype=np.bool_)
            is_taken[np.array_split(drawn, self.shards)[self.shard]] = True
            rows = compress(rows, is_taken.tolist())
        return islice(rows, self.most)


ALL_ROWS = Selection()
"""Every row."""
