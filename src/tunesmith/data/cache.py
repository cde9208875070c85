"""Prepared samples on the disk: written once in order, read in any order without copying the file.

Samples lie in shards: folders with ``samples.arrow`` (ids and runs), ``lengths.npy`` and
``totals.npy`` (one number a sample). A prepared folder names its shards and holds the sample
numbers of each split. The documents of a sample of several lie end to end, with their sizes.
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
from tunesmith.data.samples import KINDS, JudgedSample, SampleKind, TrainedSample
from tunesmith.data.strangers import Strangers
from tunesmith.data.strips import Strip, lay_out, pick_up
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

_MANY = [pa.field("sizes", pa.large_list(pa.int32())), pa.field("label", pa.bool_())]
"""What samples of other kinds have beside: the lengths of their documents, and a verdict."""


class SampleWriter:
    """Writes samples one after the other; memory holds one batch and a few bytes a sample."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lengths = array("i")
        self._totals: dict[str, array[float]] = {}
        self._pending: list[Strip] = []
        self._pending_tokens = 0
        self._batch_starts: list[int] = []
        self._kind: SampleKind = "tokens"
        self._file = pa.OSFile(str(folder / "samples.arrow"), "wb")
        self._writer: Any = None

    def add(self, sample: TrainedSample, totals: Mapping[str, float]) -> None:
        """Write a sample and its share of each named total.

        Raises:
            TunesmithError: other totals than those of the samples before it.
        """
        if not self.lengths:
            self._totals = {name: array("d") for name in totals}
            self._kind = KINDS[type(sample)]
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
        self._pending.append(lay_out(sample))
        self._pending_tokens += len(sample)
        if len(self._pending) >= _SAMPLES_A_BATCH or self._pending_tokens >= _TOKENS_A_BATCH:
            self._flush()

    def close(self) -> None:
        """Finish the sample file, and write the lengths and totals."""
        self._flush()
        self._open().close()
        self._file.close()
        np.save(self.folder / "lengths.npy", np.array(self.lengths, dtype="<i4"))
        totals = [np.array(values, dtype="<f8") for values in self._totals.values()]
        stacked = np.stack(totals) if totals else np.zeros((0, len(self.lengths)))
        np.save(self.folder / "totals.npy", stacked)

    def facts(self) -> dict[str, Any]:
        """What a reader must know: the totals' names in order, and where each batch starts."""
        facts = {"totals": list(self._totals), "batches": self._batch_starts}
        return facts if self._kind == "tokens" else {**facts, "kind": self._kind}

    def _open(self) -> Any:
        """The writer of record batches; what its columns are is known with the first sample."""
        if self._writer is None:
            fields = list(_SCHEMA) + ([] if self._kind == "tokens" else _MANY)
            self._writer = pa.ipc.new_file(self._file, pa.schema(fields))
        return self._writer

    def _flush(self) -> None:
        if not self._pending:
            return
        ids = np.concatenate([strip.ids for strip in self._pending])
        n_runs = [len(strip.runs) for strip in self._pending]
        runs = np.array([run for strip in self._pending for run in strip.runs], "<f8")
        starts, ends, weights = runs.reshape(-1, 3).T
        columns = [
            _lists((len(strip.ids) for strip in self._pending), ids.astype("<i4")),
            _lists(n_runs, starts.astype("<i4")),
            _lists(n_runs, ends.astype("<i4")),
            _lists(n_runs, weights.astype("<f8")),
            _texts([strip.source for strip in self._pending]),
        ]
        writer = self._open()
        if self._kind != "tokens":
            sizes = np.array([size for strip in self._pending for size in strip.sizes], "<i4")
            columns.append(_lists((len(strip.sizes) for strip in self._pending), sizes))
            columns.append(_verdicts([strip.label for strip in self._pending]))
        self._batch_starts.append(len(self.lengths) - len(self._pending))
        writer.write_batch(pa.record_batch(columns, names=_names(columns)))
        self._pending = []
        self._pending_tokens = 0


def _names(columns: Sequence[Any]) -> list[str]:
    return [field.name for field in (*_SCHEMA, *_MANY)][: len(columns)]


# Columns are made of plain buffers: pyarrow's own ways from Python's values and numpy's arrays
# import pandas first, which costs more than all the rest of writing.


def _lists(lengths: Iterable[int], values: NDArray[Any]) -> Any:
    """The values as lists of these lengths, one after the other."""
    offsets = np.cumsum(np.array([0, *lengths], dtype=np.int64))
    kind = pa.from_numpy_dtype(values.dtype)
    flat = pa.Array.from_buffers(kind, len(values), [None, _buffer(values)])
    return pa.Array.from_buffers(
        pa.large_list(kind), len(offsets) - 1, [None, _buffer(offsets)], children=[flat]
    )


def _texts(texts: Sequence[str]) -> Any:
    """The texts as one column."""
    encoded = [text.encode() for text in texts]
    offsets = np.cumsum(np.array([0, *map(len, encoded)], dtype=np.int32), dtype=np.int32)
    buffers = [None, _buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers)


def _verdicts(labels: Sequence[bool]) -> Any:
    """The verdicts as one column, a bit each."""
    bits = np.packbits(np.array(labels, dtype=np.bool_), bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(labels), [None, _buffer(bits)])


def _buffer(values: NDArray[Any]) -> Any:
    return pa.py_buffer(np.ascontiguousarray(values))


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
        self._strangers: Strangers | None = None
        starts = np.asarray(facts["datasets"], dtype=np.int64)
        self.datasets = np.searchsorted(starts, self._numbers, side="right") - 1

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> TrainedSample:
        """The sample at ``index``; its ids are a read-only view of the file."""
        sample = self._read(index)
        if not isinstance(sample, JudgedSample):
            return sample
        if self._strangers is None:
            longest = int(self.lengths.max())
            self._strangers = Strangers(self.fingerprint, len(self), longest)
        return self._strangers.meet(index, sample, self._judged)

    def _read(self, index: int) -> TrainedSample:
        number = self._numbers[index]
        shard = int(np.searchsorted(self._starts, number, side="right")) - 1
        return self._shards[shard].sample(int(number - self._starts[shard]))

    def _judged(self, index: int) -> JudgedSample:
        sample = self._read(index)
        assert isinstance(sample, JudgedSample), "samples of a split are of one kind"
        return sample

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
        self._kind: SampleKind = facts.get("kind", "tokens")

    def sample(self, number: int) -> TrainedSample:
        batch = int(np.searchsorted(self._starts, number, side="right")) - 1
        if batch not in self._batches:
            self._batches[batch] = _Columns(self._reader.get_batch(batch), self._kind)
        return self._batches[batch].sample(int(number - self._starts[batch]))


class _Columns:
    """A record batch as numpy views of the mapped file."""

    def __init__(self, batch: Any, kind: SampleKind) -> None:
        self._kind = kind
        self._ids = _views(batch.column("input_ids"))
        self._starts = _views(batch.column("starts"))
        self._ends = _views(batch.column("ends"))
        self._weights = _views(batch.column("weights"))
        self._sources = batch.column("source")
        is_plain = kind == "tokens"
        self._sizes = None if is_plain else _views(batch.column("sizes"))
        self._labels = None if is_plain else batch.column("label")

    def sample(self, at: int) -> TrainedSample:
        starts, ends, weights = (
            _item(column, at).tolist() for column in (self._starts, self._ends, self._weights)
        )
        runs = tuple(zip(starts, ends, weights, strict=True))
        sizes = () if self._sizes is None else tuple(_item(self._sizes, at).tolist())
        label = self._labels is not None and self._labels[at].as_py()
        strip = Strip(_item(self._ids, at), runs, self._sources[at].as_py(), sizes, bool(label))
        return pick_up(strip, self._kind)


_Views = tuple[NDArray[np.int64], NDArray[Any]]


def _views(column: Any) -> _Views:
    return column.offsets.to_numpy(), column.values.to_numpy()


def _item(views: _Views, at: int) -> NDArray[Any]:
    offsets, values = views
    return values[offsets[at] : offsets[at + 1]]


def _load(path: Path) -> NDArray[Any]:
    loaded: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return loaded
