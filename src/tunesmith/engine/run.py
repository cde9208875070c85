"""``Run``: the assembled parts of a run, as one frozen dataclass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

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
    """Where the run's state goes. Leaving the context waits for what is still being written."""

    last_step: int | None
    """The step of the last save."""

    def save(self, state: TrainState) -> None:
        """Save the state and the run's tensors as they are now."""
        ...

    def written(self, *, wait: bool = False) -> list[TrainState]:
        """The states whose checkpoints came to be whole and on the disk since the last call."""
        ...

    def require_room(self, saves: int, *, has_best: bool) -> None:
        """Raise unless the disk holds what so many saves and the final model take at once."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


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
