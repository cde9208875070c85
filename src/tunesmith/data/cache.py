"""Prepared samples on the disk: written once in order, read in any order without copying the file.

Samples lie in shards: folders with ``samples.arrow`` (ids and runs), ``lengths.npy`` and
``totals.npy`` (one number a sample). A prepared folder names its shards and holds the sample
numbers of each split.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tunesmith.data.facts import PREPARED, SHARD, read_facts
from tunesmith.data.samples import TokenSample
from tunesmith.errors import DataError, TunesmithError

TRAIN, HELD_OUT = "train", "held_out"
"""The names of the splits."""

_SAMPLES_A_BATCH = 1024
_TOKENS_A_BATCH = 1 << 20

_SCHEMA = pa.schema(
    [
        ("input_ids", pa.large_list(pa.int32())),
        ("starts", pa.large_list(pa.int32())),
        ("ends", pa.large_list(pa.int32())),
        ("weights", pa.large_list(pa.float64())),
        ("source", pa.string()),
    ]
)


class SampleWriter:
    """Writes samples one after the other; memory holds one batch and a few bytes a sample."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lengths = array("i")
        self._totals: dict[str, array[float]] = {}
        self._pending: list[TokenSample] = []
        self._pending_tokens = 0
        self._batch_starts: list[int] = []
        self._file = pa.OSFile(str(folder / "samples.arrow"), "wb")
        self._writer = pa.ipc.new_file(self._file, _SCHEMA)

    def add(self, sample: TokenSample, totals: Mapping[str, float]) -> None:
        """Write a sample and its share of each named total.

        Raises:
            TunesmithError: other totals than those of the samples before it.
        """
        if not self.lengths:
            self._totals = {name: array("d") for name in totals}
        if totals.keys() != self._totals.keys():
            raise TunesmithError(
                f"{sample.source}: the objective gives totals {sorted(totals)}, "
                f"before it gave {sorted(self._totals)}",
                hint="an objective must give every sample the same named totals",
                where=sample.source,
            )
        for name, value in totals.items():
            self._totals[name].append(value)
        self.lengths.append(len(sample))
        self._pending.append(sample)
        self._pending_tokens += len(sample)
        if len(self._pending) >= _SAMPLES_A_BATCH or self._pending_tokens >= _TOKENS_A_BATCH:
            self._flush()

    def close(self) -> None:
        """Finish the sample file, and write the lengths and totals."""
        self._flush()
        self._writer.close()
        self._file.close()
        np.save(self.folder / "lengths.npy", np.array(self.lengths, dtype="<i4"))
        totals = [np.array(values, dtype="<f8") for values in self._totals.values()]
        stacked = np.stack(totals) if totals else np.zeros((0, len(self.lengths)))
        np.save(self.folder / "totals.npy", stacked)

    def facts(self) -> dict[str, Any]:
        """What a reader must know: the totals' names in order, and where each batch starts."""
        return {"totals": list(self._totals), "batches": self._batch_starts}

    def _flush(self) -> None:
        if not self._pending:
            return
        ids = np.concatenate([sample.input_ids for sample in self._pending])
        n_runs = [len(sample.runs) for sample in self._pending]
        runs = np.array([run for sample in self._pending for run in sample.runs], "<f8")
        starts, ends, weights = runs.reshape(-1, 3).T
        columns = [
            _lists(map(len, self._pending), ids.astype("<i4")),
            _lists(n_runs, starts.astype("<i4")),
            _lists(n_runs, ends.astype("<i4")),
            _lists(n_runs, weights.astype("<f8")),
            pa.array([sample.source for sample in self._pending], pa.string()),
        ]
        self._batch_starts.append(len(self.lengths) - len(self._pending))
        self._writer.write_batch(pa.record_batch(columns, schema=_SCHEMA))
        self._pending = []
        self._pending_tokens = 0


def _lists(lengths: Iterable[int], values: NDArray[Any]) -> Any:
    """The values as lists of these lengths, one after the other."""
    offsets = np.array([0, *lengths], dtype=np.int64)
    return pa.LargeListArray.from_arrays(np.cumsum(offsets), values)


class PreparedSplit:
    """One side of a prepared data set, memory-mapped; it pickles as its folder and name.

    ``lengths`` is int32 [N] and ``totals`` holds a float64 [N] a named total; ``datasets`` is the
    number of each sample's data set in the config. ``fingerprint`` names the content: equal samples
    in equal order have the same one, wherever they were prepared.
    """

    def __init__(self, path: Path, name: str) -> None:
        facts = read_facts(path, PREPARED)
        if facts is None or name not in facts["splits"]:
            raise _not_prepared(path, name)
        self.path = path
        self.name = name
        self.fingerprint: str = facts["splits"][name]
        self._numbers: NDArray[np.int64] = np.load(path / f"{name}.npy", allow_pickle=False)
        self._shards = [_Shard(path / shard) for shard in facts["shards"]]
        sizes = [len(shard.lengths) for shard in self._shards]
        self._starts = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
        self.lengths: NDArray[np.int32] = self._gather([s.lengths for s in self._shards], np.int32)
        self.totals: dict[str, NDArray[np.float64]] = {
            total: self._gather([shard.totals[row] for shard in self._shards], np.float64)
            for row, total in enumerate(facts["totals"])
        }
        starts = np.asarray(facts["datasets"], dtype=np.int64)
        self.datasets = np.searchsorted(starts, self._numbers, side="right") - 1

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> TokenSample:
        """The sample at ``index``; its ids are a read-only view of the file."""
        number = self._numbers[index]
        shard = int(np.searchsorted(self._starts, number, side="right")) - 1
        return self._shards[shard].sample(int(number - self._starts[shard]))

    def __reduce__(self) -> tuple[type[PreparedSplit], tuple[Path, str]]:
        return PreparedSplit, (self.path, self.name)

    def _gather(self, parts: Sequence[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
        """The numbers of this split's samples, out of those of all shards."""
        whole = np.concatenate(parts) if parts else np.empty(0, dtype)
        found: NDArray[Any] = whole[self._numbers]
        return found


def _not_prepared(path: Path, name: str) -> DataError:
    return DataError(
        f"{path} holds no prepared `{name}` data",
        hint="run `tunesmith preprocess` again",
        where=str(path),
    )


class _Shard:
    """The samples of one shard, memory-mapped."""

    def __init__(self, path: Path) -> None:
        facts = read_facts(path, SHARD)
        if facts is None:
            raise _not_prepared(path, "samples")
        self.lengths = _load(path / "lengths.npy")
        self.totals = _load(path / "totals.npy")
        self._reader = pa.ipc.open_file(pa.memory_map(str(path / "samples.arrow")))
        self._starts: NDArray[np.int64] = np.asarray(facts["batches"], dtype=np.int64)
        self._batches: dict[int, _Columns] = {}

    def sample(self, number: int) -> TokenSample:
        batch = int(np.searchsorted(self._starts, number, side="right")) - 1
        if batch not in self._batches:
            self._batches[batch] = _Columns(self._reader.get_batch(batch))
        return self._batches[batch].sample(int(number - self._starts[batch]))


class _Columns:
    """A record batch as numpy views of the mapped file."""

    def __init__(self, batch: Any) -> None:
        self._ids = _views(batch.column("input_ids"))
        self._starts = _views(batch.column("starts"))
        self._ends = _views(batch.column("ends"))
        self._weights = _views(batch.column("weights"))
        self._sources = batch.column("source")

    def sample(self, at: int) -> TokenSample:
        starts, ends, weights = (
            _item(column, at).tolist() for column in (self._starts, self._ends, self._weights)
        )
        runs = tuple(zip(starts, ends, weights, strict=True))
        return TokenSample(_item(self._ids, at), runs, self._sources[at].as_py())


_Views = tuple[NDArray[np.int64], NDArray[Any]]


def _views(column: Any) -> _Views:
    return column.offsets.to_numpy(), column.values.to_numpy()


def _item(views: _Views, at: int) -> NDArray[Any]:
    offsets, values = views
    return values[offsets[at] : offsets[at + 1]]


def _load(path: Path) -> NDArray[Any]:
    loaded: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return loaded
