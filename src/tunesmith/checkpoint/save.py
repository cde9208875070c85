"""Weights as plain safetensors, the training state beside them: temp, hash, fsync, rename."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from tunesmith.checkpoint import layout
from tunesmith.checkpoint.durable import (
    explaining_disk,
    force_to_disk,
    replacing_folder,
    require_room,
)
from tunesmith.checkpoint.state import TrainState
from tunesmith.checkpoint.weights import ModelFiles, n_bytes, require_tensors, save_tensors
from tunesmith.errors import ExitCode, RunError


class OptimizerState(Protocol):
    """What a checkpoint needs from an optimizer: its state, flat and by parameter name."""

    def state_tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state, named ``<kind>.<parameter>``."""
        ...

    def state_scalars(self) -> dict[str, Any]:
        """Everything of the state that is no tensor, as JSON can hold it."""
        ...

    def expected_bytes(self) -> int:
        """How many bytes the tensors will take once a step was made."""
        ...

    def load_state(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
        """Put back what the two above gave."""
        ...


def _nothing() -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that one checkpoint holds. Its tensors are the run's own until somebody copies them.

    ``content`` is that of ``state.json``; ``optimizer`` is None where weights alone are saved.
    """

    state: TrainState
    files: ModelFiles
    optimizer: Mapping[str, Tensor] | None
    content: Mapping[str, Any]

    def n_bytes(self) -> int:
        """How many bytes its tensors take on disk."""
        return self.files.n_bytes() + sum(map(n_bytes, (self.optimizer or {}).values()))


@dataclass(frozen=True, slots=True)
class CheckpointStore:
    """Writes ``checkpoint-<step>`` folders below ``output_dir`` and removes the old ones.

    ``optimizer`` is None when checkpoints hold weights only (they cannot be resumed). ``identity``
    says which run this is (fingerprints, global batch); it is stored and given back on load.
    ``extra`` gives further plain state, a loss scale for one, anew at each save. ``keep`` is how
    many checkpoints stay; the best one stays beyond them.
    """

    output_dir: Path
    files: ModelFiles
    optimizer: OptimizerState | None
    identity: Mapping[str, Any] = field(default_factory=dict)
    extra: Callable[[], dict[str, Any]] = _nothing
    keep: int | None = None

    def save(self, state: TrainState) -> Path:
        """The checkpoint's folder, whole and on the disk; one of the same step is replaced.

        Raises:
            RunError: as ``write``.
        """
        return self.write(self.take(state))

    def take(self, state: TrainState) -> Snapshot:
        """What is to be saved, as it is now."""
        tensors = self.optimizer.state_tensors() if self.optimizer is not None else None
        require_tensors(tensors or {})
        content: dict[str, Any] = {
            "version": layout.VERSION,
            "resumable": self.optimizer is not None,
            "train_state": state.to_json(),
            "identity": dict(self.identity),
            "extra": self.extra(),
            "optimizer": self.optimizer.state_scalars() if self.optimizer is not None else {},
        }
        copy = replace(state, counters=dict(state.counters))
        return Snapshot(copy, self.files, tensors, content)

    def write(self, snapshot: Snapshot) -> Path:
        """The folder of ``snapshot``, whole and on the disk.

        Raises:
            RunError: exit 3, there is no room or the disk fails; exit 5, what was read back differs
                from what was written. Earlier checkpoints are untouched in all cases.
        """
        self.output_dir.mkdir(parents=True, exist_ok=True)
        needed = snapshot.n_bytes()
        require_room(self.output_dir, needed)
        step = snapshot.state.step
        final = layout.checkpoint_path(self.output_dir, step)
        partial = layout.partial_path(self.output_dir, step)
        with replacing_folder(partial, final, needed=needed) as folder:
            snapshot.files.write(folder)
            _write_state(folder, snapshot)
            layout.write_manifest(folder)
        with explaining_disk(final):
            self._rotate(final, snapshot.state)
        return final

    def _rotate(self, newest: Path, state: TrainState) -> None:
        """Remove surplus checkpoints, once the new one was read back and found right."""
        doomed = layout.surplus(self.output_dir, keep=self.keep, best_step=state.best_step)
        doomed = [path for path in doomed if path != newest]
        if not doomed:
            return
        damage = layout.verify(newest)
        if damage is not None:
            raise RunError(
                f"what was saved cannot be read back: {damage}",
                hint="check the disk; the earlier checkpoints were left alone, resume from them",
                where=str(newest),
                exit_code=ExitCode.DAMAGED,
            )
        for path in doomed:
            layout.remove(path)
        force_to_disk(self.output_dir)


def _write_state(folder: Path, snapshot: Snapshot) -> None:
    """Write ``state.json`` and, unless weights only, the optimizer's tensors."""
    if snapshot.optimizer is not None:
        path = folder / layout.OPTIMIZER
        path.parent.mkdir()
        save_tensors(path, snapshot.optimizer)
    text = json.dumps(snapshot.content, indent=2, sort_keys=True, allow_nan=False) + "\n"
    (folder / layout.STATE).write_text(text, encoding="utf-8")
