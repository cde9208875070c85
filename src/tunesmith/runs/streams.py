"""Data that is prepared while it trains: its first window, and the stream that a run draws from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.checkpoint.state import TrainState
from tunesmith.config.data import DataSection, DatasetEntry
from tunesmith.config.schema import RunConfig
from tunesmith.data.build import Progress
from tunesmith.data.cache import PreparedSplit
from tunesmith.data.ledger import Ledger
from tunesmith.data.live import WindowStream
from tunesmith.data.mixing import Mixture, Share
from tunesmith.data.prepare import PrepareRequest
from tunesmith.data.prepare import prepare as prepare_data
from tunesmith.data.stream import MapStream, OrderSettings
from tunesmith.data.windows import StreamRequest, Windows
from tunesmith.dist.mesh import Mesh
from tunesmith.engine.run import Run
from tunesmith.runs.guarding import write_ledger


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream: its windows, the first of them with its account, and the data that is held out."""

    windows: Windows
    first: PreparedSplit
    ledger: Ledger
    held_out: PreparedSplit | None


def open_stream(request: PrepareRequest, progress: Progress) -> Opened:
    """The stream of a request whose data is ``streaming``; held-out data sets are prepared whole.

    Raises:
        DataError, ConfigError: as ``prepare``, for the first window.
    """
    windows = windows_of(request, progress)
    try:
        first, ledger = windows.open(0)
    finally:
        windows.close()
    return Opened(windows, first, ledger, _held_out(request, progress))


def windows_of(request: PrepareRequest, progress: Progress) -> Windows:
    """The windows of the training data of a request; none of them is built yet.

    Raises:
        DataError, ConfigError: as ``prepare``, for what can be told without reading rows.
    """
    data = request.data
    n_train = len(data.datasets)
    training = replace(
        request,
        data=data.model_copy(update={"test_datasets": (), "val_set_size": 0.0}),
        settings=request.settings[:n_train],
    )
    return Windows(StreamRequest(training, data.window, _weights(data.datasets)), progress)


def _weights(entries: tuple[DatasetEntry, ...]) -> tuple[float, ...] | None:
    """How the data sets are mixed; None where no entry says."""
    if all(entry.weight is None for entry in entries):
        return None
    return tuple(1.0 if entry.weight is None else entry.weight for entry in entries)


def _held_out(request: PrepareRequest, progress: Progress) -> PreparedSplit | None:
    data, packing = request.data, request.packing
    if not data.test_datasets:
        return None
    longest = packing.eval_sequence_len or packing.sequence_len
    update = {"datasets": data.test_datasets, "test_datasets": (), "val_set_size": 0.0}
    alone = replace(
        request,
        data=data.model_copy(update=update),
        packing=packing.model_copy(update={"sequence_len": longest}),
        settings=request.settings[len(data.datasets) :],
        given=(),
    )
    return prepare_data(alone, progress).train


def training_stream(
    train: PreparedSplit, windows: Windows | None, order: OrderSettings, mesh: Mesh
) -> MapStream | WindowStream:
    """What a run draws its steps from: prepared data, or a stream's windows."""
    return MapStream(train, order, mesh) if windows is None else WindowStream(windows, order, mesh)


class StreamLedger:
    """A callback that keeps ``ledger.json`` true while a stream is read: at saves and the end."""

    def __init__(self, stream: WindowStream, path: Path) -> None:
        self._stream, self._path = stream, path

    def saved(self, run: Run, state: TrainState) -> None:
        """Write the account of what was read up to here."""
        self._write(run, state)

    def run_finished(self, run: Run, state: TrainState) -> None:
        """Write the account of the whole run."""
        self._write(run, state)

    def _write(self, run: Run, state: TrainState) -> None:
        if run.mesh.is_main:
            write_ledger(self._path, self._stream.ledger(state.step).to_json())


def mixture_of(config: RunConfig) -> Mixture:
    """How often an epoch draws from each data set, and in which order."""
    data: DataSection = config.data
    if data.streaming:
        return Mixture()  # a stream mixes its rows while it reads them
    keeps = data.curriculum
    return Mixture(
        shares=tuple(Share(entry.repeats, entry.weight) for entry in data.datasets),
        until=data.mixture_until,
        shuffle_within=all((keeps, data.shuffle_before_merging, not data.shuffle_merged)),
        interleave=all((keeps, data.interleave)),
    )
