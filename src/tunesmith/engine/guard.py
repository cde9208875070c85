"""What is done about a step that went bad: stop, leave it out, or go back and pass over it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tunesmith.checkpoint.state import TrainState
from tunesmith.errors import ExitCode, RunError

Answer = Literal["stop", "skip", "rollback"]

SKIPS_IN_A_ROW = 25
"""So many skipped steps halve a loss scale from 65,536 to 0.002: no scale would help."""

ROLLBACKS = 3
"""A run that went back so often is not one that goes on."""


class Numbers(Protocol):
    """What a step's report must tell to be judged."""

    @property
    def step(self) -> int:
        """The step's number, from 1."""
        ...

    @property
    def loss(self) -> float:
        """What was differentiated."""
        ...

    @property
    def grad_norm(self) -> float:
        """The norm of the gradient."""
        ...


class BadStep(RunError):
    """Steps (counted from 1) whose numbers are not what a run should go on from."""

    exit_code = ExitCode.NOT_FINITE

    def __init__(self, steps: tuple[int, ...], message: str, hint: str) -> None:
        super().__init__(message, hint=hint, where=f"step {steps[-1]}")
        self.steps = steps


class NotFinite(BadStep):
    """A step whose loss or gradient is not finite; it was not applied."""

    def __init__(self, step: int, message: str) -> None:
        super().__init__(
            (step,),
            message,
            "lower learning_rate, set max_grad_norm, use bf16 in place of fp16, look at the step's "
            "rows, or set on_nonfinite; resume from the last checkpoint",
        )
        self.step = step


class LossSpike(BadStep):
    """Steps in a row with a loss above the threshold. They were applied."""


@dataclass(frozen=True, slots=True)
class Spike:
    """A loss above ``threshold`` in ``patience`` steps in a row is too much."""

    threshold: float
    patience: int


class Incidents(Protocol):
    """Where it is written down that rows were left out."""

    def add(self, incident: dict[str, Any]) -> None:
        """Write one down, to stay."""
        ...

    def __iter__(self) -> Any: ...


class Guard:
    """Judges every step's numbers once the host has read them.

    ``has_scale``: a loss scale skips and counts steps by itself. ``incidents`` knows those of
    earlier processes of the run, too; ``rows_of`` names the rows of a step (from 0).
    """

    def __init__(
        self,
        answer: Answer = "stop",
        *,
        has_scale: bool = False,
        spike: Spike | None = None,
        incidents: Incidents | None = None,
        rows_of: Callable[[int], Iterable[str]] = lambda step: (),
    ) -> None:
        self.answer = answer
        self.spike = spike
        self._has_scale = has_scale
        self._incidents = incidents if incidents is not None else _Forgotten()
        self._rows_of = rows_of
        known = list(self._incidents)
        self._passed = {step for one in known for step in one.get("passed_over", ())}
        self.n_rollbacks = sum(1 for one in known if one.get("passed_over"))

    @property
    def skips(self) -> bool:
        """Whether a step that is not finite is left out and the run goes on."""
        return self._has_scale or self.answer == "skip"

    @property
    def may_roll_back(self) -> bool:
        """Whether the run may go back once more."""
        return self.answer == "rollback" and self.n_rollbacks < ROLLBACKS

    def passes_over(self, step: int) -> bool:
        """Whether a step (from 1) is not made again after going back."""
        return step in self._passed

    def judge(self, state: TrainState, report: Numbers) -> None:
        """Count and write down, or raise.

        Raises:
            NotFinite: exit 4, loss or gradient are not finite, and that is not to be skipped (or
                was, many times in a row).
            LossSpike: exit 4, the loss was too high for too long.
        """
        bad = _what_is_bad(report)
        if bad is None:
            state.counters.pop("skipped_in_a_row", None)
            self._watch_for_spikes(state, report)
            return
        if not self.skips:
            raise _not_finite(report, bad)
        for name in ("skipped_steps", "skipped_in_a_row"):
            state.counters[name] = state.counters.get(name, 0) + 1
        if self.answer == "skip":
            self._write(bad, "skipped", [report.step])
        if state.counters["skipped_in_a_row"] >= SKIPS_IN_A_ROW:
            raise _not_finite(report, bad)

    def rolled_back(self, error: BadStep, to: int) -> None:
        """Write down that the run went back to the end of step ``to`` and passes over the bad."""
        steps = [step for step in error.steps if step > to]
        self._passed.update(steps)
        self.n_rollbacks += 1
        self._write(error.message, f"rolled back to step {to}", steps, passed_over=steps)

    def _watch_for_spikes(self, state: TrainState, report: Numbers) -> None:
        if self.spike is None:
            return
        if report.loss <= self.spike.threshold:
            state.counters.pop("high_losses", None)
            return
        count = state.counters["high_losses"] = state.counters.get("high_losses", 0) + 1
        if count >= self.spike.patience:
            steps = tuple(range(report.step - count + 1, report.step + 1))
            raise LossSpike(
                steps,
                f"the loss was above {self.spike.threshold:g} in {count} steps in a row, up to "
                f"{report.loss:.4g} in step {report.step}",
                "lower learning_rate, or look at these steps' rows; checkpoints from before step "
                f"{steps[0]} are the last good ones (loss_watchdog_threshold, "
                "loss_watchdog_patience)",
            )

    def _write(self, what: str, action: str, steps: list[int], **more: Any) -> None:
        rows = [row for step in steps for row in self._rows_of(step - 1)]
        self._incidents.add({"steps": steps, "what": what, "action": action, "rows": rows, **more})


class _Forgotten:
    """Incidents that nobody keeps."""

    def add(self, incident: dict[str, Any]) -> None:
        """Keep nothing."""

    def __iter__(self) -> Any:
        return iter(())


def _what_is_bad(report: Numbers) -> str | None:
    """Which numbers of the step are not finite, in words; None when all are."""
    bad = [
        f"the {name} is {value}"
        for name, value in (("loss", report.loss), ("gradient norm", report.grad_norm))
        if not math.isfinite(value)
    ]
    return " and ".join(bad) or None


def _not_finite(report: Numbers, bad: str) -> NotFinite:
    return NotFinite(report.step, f"step {report.step} went bad: {bad}")
