"""``Run``: the assembled parts of a run, as one frozen dataclass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from tunesmith.checkpoint.state import TrainState
from tunesmith.data.batch import Batch
from tunesmith.data.stream import Stream
from tunesmith.dist.mesh import Mesh
from tunesmith.engine.cadence import Cadence
from tunesmith.engine.events import Events
from tunesmith.engine.latch import Latch
from tunesmith.engine.report import Reporter, StepSums
from tunesmith.engine.scaling import Scale, Unscaled
from tunesmith.models.policy import Policy
from tunesmith.objectives.objective import Objective
from tunesmith.optim.optimizer import Optimizer


class ForwardBackward(Protocol):
    """How a step's gradient is made: one micro-batch after the other, or a pipeline's schedule."""

    def __call__(self, microbatches: Sequence[Batch], totals: Mapping[str, float]) -> StepSums:
        """This rank's sums; gradients are in ``.grad``, of the whole step's divided loss."""
        ...


class Checkpoints(Protocol):
    """Where the run's state goes."""

    def save(self, state: TrainState) -> Path:
        """The checkpoint's folder, whole and on the disk."""
        ...


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that the loop needs, built at assembly; only the tensors in it ever change.

    ``schedule`` is a pure function of the finished steps to the rate's multiplier.
    ``shard`` gives this rank's part of a micro-batch (identity on one device).
    ``served_weights`` enters the weights that are evaluated, saved and exported, where those are
    not the ones that step.
    """

    policy: Policy
    objective: Objective
    optimizer: Optimizer
    schedule: Callable[[int], float]
    stream: Stream
    held_out: Stream | None
    forward_backward: ForwardBackward
    shard: Callable[[Batch], Batch]
    mesh: Mesh
    max_norm: float
    cadence: Cadence
    checkpoints: Checkpoints
    report: Reporter
    latch: Latch
    seed: int
    device: torch.device
    events: Events[Run] = field(default_factory=Events)
    scale: Scale = field(default_factory=Unscaled)
    served_weights: Callable[[], AbstractContextManager[object]] = nullcontext
