"""Read a checkpoint back: every hash is checked before anything of it is used."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from tunesmith.checkpoint import layout
from tunesmith.checkpoint.save import OptimizerState
from tunesmith.checkpoint.state import TrainState
from tunesmith.checkpoint.weights import ADAPTER, MODEL, NamedTensors, has_weights, read_weights
from tunesmith.errors import ExitCode, RunError


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint's plain part: how far the run was, which run it was, and the scalars."""

    path: Path
    state: TrainState
    identity: dict[str, Any]
    extra: dict[str, Any]
    optimizer_scalars: dict[str, Any]
    resumable: bool

    def tensors(self) -> NamedTensors:
        """Every (Hugging Face name, tensor) of the weights, on the CPU, one at a time."""
        return read_weights(self.path, ADAPTER if has_weights(self.path, ADAPTER) else MODEL)


def read(path: Path) -> Saved:
    """The checkpoint at ``path``, verified; tensors are read later.

    Raises:
        RunError: exit 2, there is no such folder; exit 5, a file is missing, added or changed.
    """
    if not path.is_dir():
        raise RunError(
            f"there is no checkpoint at {path}",
            hint="name a checkpoint-<step> folder in resume_from_checkpoint",
            where=str(path),
            exit_code=ExitCode.WRONG_INPUT,
        )
    damage = layout.verify(path)
    if damage is not None:
        raise RunError(
            f"the checkpoint is damaged: {damage}",
            hint="resume from another checkpoint, or leave resume_from_checkpoint out",
            where=str(path),
            exit_code=ExitCode.DAMAGED,
        )
    content = json.loads((path / layout.STATE).read_text(encoding="utf-8"))
    return Saved(
        path=path,
        state=TrainState.from_json(content["train_state"]),
        identity=content["identity"],
        extra=content["extra"],
        optimizer_scalars=content["optimizer"],
        resumable=content["resumable"],
    )


def restore(
    saved: Saved, *, load_weights: Callable[[NamedTensors], None], optimizer: OptimizerState
) -> TrainState:
    """The state to go on from, after weights and optimizer were put back.

    ``load_weights`` takes the saved (name, tensor) pairs and must refuse missing or unknown names.

    Raises:
        RunError: exit 2, the checkpoint holds weights only.
    """
    if not saved.resumable:
        raise RunError(
            f"{saved.path.name} holds weights only and cannot be resumed",
            hint="leave save_only_model out to save the optimizer's state, or train from this "
            "folder as base_model",
            where=str(saved.path),
            exit_code=ExitCode.WRONG_INPUT,
        )
    load_weights(saved.tensors())
    optimizer.load_state(load_file(saved.path / layout.OPTIMIZER), dict(saved.optimizer_scalars))
    return saved.state
