"""Saves of a running loop: at once, or in the background from a copy that nobody steps on."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from tunesmith.checkpoint.save import CheckpointStore, Snapshot
from tunesmith.checkpoint.space import Demand, require_room_for_run
from tunesmith.checkpoint.state import TrainState
from tunesmith.checkpoint.weights import NamedTensors


class HostCopy:
    """Copies of tensors in the host's memory, page-locked where they come from a GPU.

    The memory is kept and filled again by the next copy.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def __call__(self, snapshot: Snapshot) -> Snapshot:
        """The same snapshot, of tensors that the next step does not change."""
        weights = self._copy("weights", snapshot.files.tensors())
        state = snapshot.optimizer
        optimizer = None if state is None else self._copy("state", state.items())
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        files = replace(snapshot.files, tensors=lambda: weights.items())
        return replace(snapshot, files=files, optimizer=optimizer)

    def _copy(self, kind: str, tensors: NamedTensors) -> dict[str, Tensor]:
        return {name: self._filled(f"{kind}.{name}", tensor) for name, tensor in tensors}

    def _filled(self, key: str, tensor: Tensor) -> Tensor:
        buffer = self._buffers.get(key)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            buffer = torch.empty(
                tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=tensor.is_cuda
            )
            self._buffers[key] = buffer
        return buffer.copy_(tensor.detach(), non_blocking=True)


class Saves:
    """One save at a time; a checkpoint counts once ``written`` tells that it is on the disk.

    In the background a save returns when everything is copied; the copy is written in a thread,
    which has ended before the next save begins and before the body of ``with`` is left. What went
    wrong in the thread is raised by the next call of any method.
    """

    def __init__(self, store: CheckpointStore, *, in_background: bool = False) -> None:
        self.store = store
        self.in_background = in_background
        self.last_step: int | None = None
        self._copied = HostCopy()
        self._written: list[TrainState] = []
        self._pending: tuple[TrainState, Future[Path]] | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")

    def save(self, state: TrainState) -> None:
        """Save ``state`` and the run's tensors as they are now.

        Raises:
            RunError: as ``CheckpointStore.write``, of this save or of the one in the background.
        """
        self._collect(wait=True)
        snapshot = self.store.take(state)
        if self.in_background:
            future = self._writer.submit(self.store.write, self._copied(snapshot))
            self._pending = (snapshot.state, future)
        else:
            self.store.write(snapshot)
            self._written.append(snapshot.state)
        self.last_step = state.step

    def written(self, *, wait: bool = False) -> list[TrainState]:
        """The states whose checkpoints came to be whole since the last call.

        Raises:
            RunError: as ``CheckpointStore.write``, of the save in the background.
        """
        self._collect(wait=wait)
        found, self._written = self._written, []
        return found

    def require_room(self, saves: int, *, has_best: bool) -> None:
        """Raise unless the disk holds what so many saves and the final model take at once.

        Raises:
            RunError: exit 3, with the bytes needed and the bytes free.
        """
        store = self.store
        weights = store.files.n_bytes()
        state = 0 if store.optimizer is None else store.optimizer.expected_bytes()
        demand = Demand(weights + state, weights, saves, store.keep, has_best)
        require_room_for_run(store.output_dir, demand)

    def _collect(self, *, wait: bool) -> None:
        if self._pending is None or not (wait or self._pending[1].done()):
            return
        state, future = self._pending
        try:
            future.result()  # a signal may end the waiting; the thread goes on
        finally:
            if future.done():
                self._pending = None
        self._written.append(state)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for the thread; its error does not hide one of the body."""
        try:
            self._collect(wait=True)
        except Exception as failed:
            if error is None:
                raise
            error.add_note(f"the checkpoint in the background failed, too: {failed}")
