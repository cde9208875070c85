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
from tunesmith.engine.signals import StopFlag
from tunesmith.errors import ExitCode, RunError

SKIPS_IN_A_ROW = 25
"""So many skipped steps halve a loss scale from 65,536 to 0.002: no scale would help."""


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


class NotFinite(RunError):
    """A step (counted from 1) whose loss or gradient is not finite; it was not applied."""

    exit_code = ExitCode.NOT_FINITE

    def __init__(self, step: int, message: str) -> None:
        super().__init__(
            message,
            hint="lower learning_rate, set max_grad_norm, use bf16 in place of fp16, or look at "
            "the step's rows; resume from the last checkpoint",
            where=f"step {step}",
        )
        self.step = step


class Reporter:
    """Makes the reports of a run and stops it when a number is not finite.

    On a device that runs ahead of the host a report is read when the next one was made, so that
    the host never waits for the step it has just queued; ``settle`` reads the last one.
    ``tolerates_skips`` is true with a loss scale, where a step with a bad number is skipped and
    counted, and only ``SKIPS_IN_A_ROW`` of them end the run.
    """

    def __init__(
        self, mesh: Mesh, stop: StopFlag | None = None, *, tolerates_skips: bool = False
    ) -> None:
        self.stop = stop if stop is not None else StopFlag()
        self._mesh = mesh
        self._tolerates_skips = tolerates_skips
        self._unread: StepReport | None = None
        self._mark = time.perf_counter()

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
            NotFinite: exit 4, naming the step and which of loss and gradient is not finite.
        """
        previous, self._unread = self._unread, report
        readable = report if self._mesh.device.type == "cpu" else previous
        if readable is None:
            return
        # From one collective's sum, so that all ranks stop after the same step.
        report.stop_requested = readable.any_rank_stops
        self._check(state, readable)
        if readable is report:
            self._unread = None

    def settle(self, state: TrainState) -> None:
        """Read what is still unread, so that nothing is saved or evaluated over a bad number.

        Raises:
            RunError: as ``watch``.
        """
        report, self._unread = self._unread, None
        if report is not None:
            self._check(state, report)

    def _check(self, state: TrainState, report: StepReport) -> None:
        bad = _what_is_bad(report)
        if bad is None:
            state.counters.pop("skipped_in_a_row", None)
        elif self._tolerates_skips:
            self._count_skip(state, report, bad)
        else:
            raise _not_finite(report, bad)

    def _count_skip(self, state: TrainState, report: StepReport, bad: str) -> None:
        """Count a step that the loss scale skipped; too many in a row end the run."""
        for name in ("skipped_steps", "skipped_in_a_row"):
            state.counters[name] = state.counters.get(name, 0) + 1
        if state.counters["skipped_in_a_row"] >= SKIPS_IN_A_ROW:
            raise _not_finite(report, bad)


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


def _what_is_bad(report: StepReport) -> str | None:
    """Which numbers of the step are not finite, in words; None when all are."""
    bad = [
        f"the {name} is {value}"
        for name, value in (("loss", report.loss), ("gradient norm", report.grad_norm))
        if not math.isfinite(value)
    ]
    return " and ".join(bad) or None


def _not_finite(report: StepReport, bad: str) -> NotFinite:
    return NotFinite(report.step, f"step {report.step} went bad: {bad}")
