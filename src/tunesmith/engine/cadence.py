"""Is it time to log, evaluate or save? Arithmetic on the step's number, nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tunesmith.checkpoint.state import TrainState
from tunesmith.config.checkpoint import CheckpointSection
from tunesmith.config.evaluation import EvaluationSection

SAVE_EVERY = 500
"""Steps between saves under ``save_strategy: steps`` alone: transformers' default."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Never; each ``every``-th step and the last; or each epoch's last step and the last."""

    unit: Literal["never", "steps", "epoch"]
    every: int = 1


@dataclass(frozen=True, slots=True)
class Timeline:
    """How long the run is: all steps, and how many epochs are finished after a number of steps."""

    steps: int
    epoch_at: Callable[[int], float]

    def is_epoch_end(self, step: int) -> bool:
        """Whether an epoch ends with this step (steps count from 1)."""
        return _whole(self.epoch_at(step)) > _whole(self.epoch_at(step - 1))

    def per_epoch(self, times: float) -> int:
        """The interval in steps that gives ``times`` an epoch, rounded up."""
        return max(1, math.ceil(round(self.steps / (self.epoch_at(self.steps) * times), 9)))


@dataclass(frozen=True, slots=True)
class Cadence:
    """Answers the loop's questions."""

    timeline: Timeline
    evaluations: Rhythm
    saves: Rhythm
    log_every: int
    evaluates_first: bool

    @property
    def steps(self) -> int:
        """The number of the run's last step."""
        return self.timeline.steps

    def log(self, state: TrainState) -> bool:
        """Whether this step is shown: every ``log_every``-th, the first and the last."""
        return state.step % self.log_every == 0 or state.step in (1, self.steps)

    def evaluate(self, state: TrainState) -> bool:
        """Whether the held-out data is looked at now; before the first step too, if asked."""
        if state.step == 0:
            return self.evaluates_first
        return self._is_due(self.evaluations, state.step)

    def save(self, state: TrainState) -> bool:
        """Whether a checkpoint is written now."""
        return self._is_due(self.saves, state.step)

    def saves_after(self, step: int) -> int:
        """How many checkpoints are still to be written when ``step`` steps are done."""
        rhythm = self.saves
        if rhythm.unit == "never" or step >= self.steps:
            return 0
        if rhythm.unit == "steps":
            return math.ceil(self.steps / rhythm.every) - step // rhythm.every
        return math.ceil(self.timeline.epoch_at(self.steps) - 1e-9) - _whole(
            self.timeline.epoch_at(step)
        )

    def _is_due(self, rhythm: Rhythm, step: int) -> bool:
        if rhythm.unit == "never":
            return False
        if step == self.steps:
            return True
        if rhythm.unit == "epoch":
            return self.timeline.is_epoch_end(step)
        return step % rhythm.every == 0


def build_cadence(
    evaluation: EvaluationSection,
    checkpoint: CheckpointSection,
    timeline: Timeline,
    *,
    log_every: int,
    has_held_out: bool,
) -> Cadence:
    """The cadence that the sections ask for; once an epoch where they say nothing.

    Both sections speak the same three words: ``*_steps`` (below 1 a share of all steps, rounded
    up), ``*s_per_epoch`` (0 means never), ``*_strategy``. Without held-out data nothing is
    evaluated.
    """
    evaluations = _rhythm(evaluation, timeline, default_every=log_every)
    if not has_held_out:
        evaluations = Rhythm("never")
    return Cadence(
        timeline=timeline,
        evaluations=evaluations,
        saves=_rhythm(checkpoint, timeline, default_every=SAVE_EVERY),
        log_every=log_every,
        evaluates_first=evaluation.first and has_held_out,
    )


def _rhythm(
    section: EvaluationSection | CheckpointSection, timeline: Timeline, *, default_every: int
) -> Rhythm:
    """The rhythm of one section. Steps win over times an epoch; conflicts were refused before."""
    if section.strategy == "no" or section.per_epoch == 0:
        return Rhythm("never")
    if section.steps is not None:
        return Rhythm("steps", steps_between(section.steps, timeline.steps))
    if section.per_epoch is not None:
        return Rhythm("steps", timeline.per_epoch(section.per_epoch))
    if section.strategy == "steps":
        return Rhythm("steps", default_every)
    return Rhythm("epoch")


def steps_between(value: float, steps: int) -> int:
    """An interval in whole steps; below 1 it is a share of all ``steps``, rounded up."""
    if value < 1:
        return max(1, math.ceil(round(steps * value, 9)))
    return math.ceil(value)


def _whole(epochs: float) -> int:
    """Finished epochs; a sum of shares may fall short of a whole number by a rounding error."""
    return math.floor(epochs + 1e-9)
