"""What a reference said of the rows of a split, kept: a number for each token that trains."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunesmith.data.batch import Batch
from tunesmith.data.facts import read_facts, write_facts
from tunesmith.data.packing import Ints

REFERENCE = "reference"
"""The targets' column that holds a reference's log-probs."""

FACTS = "reference.json"
"""The file that makes a folder of them whole."""

Values = NDArray[np.float32]


class KnownReference:
    """A folder of log-probs, memory-mapped: those of the rows, and those of their strangers."""

    def __init__(self, path: Path) -> None:
        self._own = _Rows(path, "own")
        has_strangers = (path / "strangers.npy").exists()
        self._strangers = _Rows(path, "strangers") if has_strangers else None

    def fill(self, batch: Batch, rows: Ints) -> Batch:
        """The batch of these rows, in their order, with what the reference said of each."""
        batch = _with_column(batch, self._own.of(rows))
        if batch.strangers is None or self._strangers is None:
            return batch
        return replace(batch, strangers=_with_column(batch.strangers, self._strangers.of(rows)))


def keep(
    folder: Path, said: Iterable[tuple[Batch, Ints]], n_rows: int, recipe: dict[str, Any]
) -> None:
    """Write what a reference said: batches with its column, each with the rows that it holds."""
    own: dict[int, Values] = {}
    strangers: dict[int, Values] = {}
    for batch, rows in said:
        own.update(zip(rows.tolist(), _by_row(batch, len(rows)), strict=True))
        if batch.strangers is not None:
            found = _by_row(batch.strangers, len(rows))
            strangers.update(zip(rows.tolist(), found, strict=True))
    for name, values in (("own", own), ("strangers", strangers)):
        if values:
            _write(folder, name, [values[row] for row in range(n_rows)])
    write_facts(folder, FACTS, {"recipe": recipe})


def is_kept(folder: Path) -> bool:
    """Whether the folder is there and whole."""
    return read_facts(folder, FACTS) is not None


class _Rows:
    """One number after the other; row r holds ``values[ends[r]:ends[r + 1]]``."""

    def __init__(self, path: Path, name: str) -> None:
        self._values: Values = np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        self._ends: Ints = np.load(path / f"{name}_ends.npy", allow_pickle=False)

    def of(self, rows: Ints) -> Values:
        """Those of the rows, one after the other."""
        parts = [self._values[self._ends[row] : self._ends[row + 1]] for row in rows.tolist()]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _write(folder: Path, name: str, values: Sequence[Values]) -> None:
    np.save(folder / f"{name}.npy", np.concatenate(values))
    ends = np.cumsum([0, *map(len, values)], dtype=np.int64)
    np.save(folder / f"{name}_ends.npy", ends)


def _with_column(batch: Batch, values: Values) -> Batch:
    """The batch with the values at the places that train."""
    column_T: Tensor = torch.zeros(batch.n_tokens, dtype=torch.float32)
    column_T[batch.supervised] = torch.from_numpy(values)
    return replace(batch, targets=batch.targets | {REFERENCE: column_T})


def _by_row(batch: Batch, n_rows: int) -> Iterator[Values]:
    """The values at the places that train, of each row: of all its documents."""
    segments = batch.segments.cpu().numpy()
    places = batch.supervised.cpu().numpy()
    values: Values = batch.targets[REFERENCE].float().cpu().numpy()[places]
    each = batch.n_documents // n_rows
    borders = np.searchsorted(places, segments[: batch.n_documents + 1 : each])
    for start, end in itertools.pairwise(borders):
        yield values[start:end]
