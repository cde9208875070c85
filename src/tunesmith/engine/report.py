"""What a step says about itself, and the one read of the device that it costs."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.checkpoint.state import TrainState
from tunesmith.dist.collectives import sum_over
from tunesmith.dist.mesh import Mesh
from tunesmith.engine.guard import Guard
from tunesmith.engine.signals import Abandoned, StopFlag


@dataclass(frozen=True, slots=True)
class StepSums:
    """What a step's backward leaves: detached sums of this rank, by name, on the device."""

    losses: dict[str, Tensor]
    metrics: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class StepFacts:
    """What the host knows about a step without asking the device."""

    step: int
    epoch: float
    learning_rate: float
    tokens: int
    totals: Mapping[str, float]


class Readback:
    """Numbers on their way from the device; reading them waits only when they are not there yet."""

    def __init__(self, numbers: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if numbers.is_cuda:
            self._numbers = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._numbers.copy_(numbers, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()
        else:
            self._numbers = numbers.clone()

    def values(self) -> list[float]:
        """The numbers."""
        if self._event is not None:
            self._event.synchronize()
        values: list[float] = self._numbers.tolist()
        return values


class StepReport:
    """One finished optimizer step.

    ``step``, ``epoch``, ``learning_rate`` (of the first parameter group), ``tokens``,
    ``trained_tokens`` and ``seconds`` (since the step before, data included) are plain numbers.
    ``loss``, ``grad_norm`` (before clipping) and the ones in ``parts`` and ``metrics`` lie on the
    device until they are asked for.
    """

    def __init__(
        self, facts: StepFacts, names: tuple[tuple[str, ...], tuple[str, ...]], readback: Readback
    ) -> None:
        self.step = facts.step
        self.epoch = facts.epoch
        self.learning_rate = facts.learning_rate
        self.tokens = facts.tokens
        self.trained_tokens = facts.totals.get("tokens", 0.0)
        self.seconds = 0.0
        self.stop_requested = False
        self._totals = facts.totals
        self._losses, self._metrics = names
        self._readback = readback

    @property
    def parts(self) -> dict[str, float]:
        """Each named loss: its global sum over its global weight."""
        sums = dict(zip(self._losses, self._readback.values(), strict=False))
        return {name: share(value, self._totals[name]) for name, value in sums.items()}

    @property
    def loss(self) -> float:
        """The sum of the named losses: what was differentiated."""
        return math.fsum(self.parts.values())

    @property
    def metrics(self) -> dict[str, float]:
        """The objective's own numbers: global sums over the step's trained weight."""
        values = self._readback.values()[len(self._losses) :]
        sums = dict(zip(self._metrics, values, strict=False))
        return {name: share(value, self.trained_tokens) for name, value in sums.items()}

    @property
    def grad_norm(self) -> float:
        """The global norm of the gradient, before clipping."""
        return self._readback.values()[-1]

    @property
    def any_rank_stops(self) -> bool:
        """Whether a rank had been asked to stop when this step ended."""
        return self._readback.values()[-2] > 0

    @property
    def tokens_per_second(self) -> float:
        """Tokens over seconds, of all ranks together."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def memory_bytes(self) -> int:
        """The most memory that tensors took so far: of the device, or of the process on a CPU."""
        return peak_memory_bytes()

    def to_metrics(self) -> dict[str, float]:
        """The step's line in ``metrics.jsonl``, without its number."""
        parts = self.parts if len(self._losses) > 1 else {}
        return {
            "loss": self.loss,
            "learning_rate": self.learning_rate,
            "grad_norm": self.grad_norm,
            "tokens": self.tokens,
            "trained_tokens": self.trained_tokens,
            "tokens_per_second": round(self.tokens_per_second, 3),
            "epoch": self.epoch,
            "seconds": round(self.seconds, 6),
            "memory_bytes": self.memory_bytes,
            **{f"loss/{name}": value for name, value in parts.items()},
            **self.metrics,
        }


class Reporter:
    """Makes the reports of a run and has ``guard`` judge their numbers.

    On a device that runs ahead of the host a report is read when the next one was made, so that
    the host never waits for the step it has just queued; ``settle`` reads the last one.
    """

    def __init__(
        self, mesh: Mesh, stop: StopFlag | None = None, guard: Guard | None = None
    ) -> None:
        self.stop = stop if stop is not None else StopFlag()
        self.guard = guard if guard is not None else Guard()
        self._mesh = mesh
        self._unread: StepReport | None = None
        self._mark = time.perf_counter()

    def look_up(self) -> None:
        """Leave what is going on where a stop was asked for, unless other ranks wait for us.

        Raises:
            Abandoned: nothing of it counts.
        """
        if self.stop.is_set and self._mesh.world_size == 1:
            raise Abandoned(self.stop.reason)

    def forget(self) -> None:
        """Read nothing of what was queued: the run goes back."""
        self._unread = None

    def restart_clock(self) -> None:
        """Leave the time since the last step out of the next step's seconds."""
        self._mark = time.perf_counter()

    def __call__(self, facts: StepFacts, sums: StepSums, norm: Tensor) -> StepReport:
        """The step's report, after its one collective: loss sums, metric sums, stop flag."""
        losses, metrics = tuple(sorted(sums.losses)), tuple(sorted(sums.metrics))
        # Filled on the device: a number that is copied there makes the host wait.
        stop = torch.full((), float(self.stop.is_set), dtype=torch.float64, device=norm.device)
        own = [sums.losses[name] for name in losses] + [sums.metrics[name] for name in metrics]
        packed = torch.stack([*(value.double() for value in own), stop])
        summed = sum_over(self._mesh, packed)
        numbers = torch.cat([summed, norm.detach().double().reshape(1)])
        report = StepReport(facts, (losses, metrics), Readback(numbers))
        now = time.perf_counter()
        report.seconds, self._mark = now - self._mark, now
        return report

    def watch(self, state: TrainState, report: StepReport) -> None:
        """Read this step's numbers, or, where the device runs ahead, those of the step before.

        Raises:
            BadStep: exit 4, as ``Guard.judge``.
        """
        previous, self._unread = self._unread, report
        readable = report if self._mesh.device.type == "cpu" else previous
        if readable is None:
            return
        # From one collective's sum, so that all ranks stop after the same step.
        report.stop_requested = readable.any_rank_stops
        if readable is report:
            self._unread = None
        self.guard.judge(state, readable)

    def settle(self, state: TrainState) -> None:
        """Read what is still unread, so that nothing is saved or evaluated over a bad number.

        Raises:
            BadStep: as ``watch``.
        """
        report, self._unread = self._unread, None
        if report is not None:
            self.guard.judge(state, report)


def share(value: float, total: float) -> float:
    """``value / total``. A sum over nothing is 0; anything else over nothing is not finite."""
    if total != 0:
        return value / total
    return 0.0 if value == 0 else math.copysign(math.inf, value)


def peak_memory_bytes() -> int:
    """The most memory used so far: by tensors on the GPU, or by the whole process on a CPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
