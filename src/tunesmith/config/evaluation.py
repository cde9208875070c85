"""Section ``evaluation``: when held-out data is looked at."""

from __future__ import annotations

from typing import Literal

from tunesmith.config.section import Section, key
from tunesmith.config.when import has_held_out


class EvaluationSection(Section):
    """When to evaluate."""

    strategy: Literal["no", "steps", "epoch"] | None = key(
        None, "`no`, `steps` or `epoch`.", flat="eval_strategy", readers="tunesmith.engine.cadence"
    )
    steps: float | None = key(
        None,
        "Every so many steps; below 1 a share of all steps.",
        flat="eval_steps",
        le=1_000_000_000,
        gt=0,
        readers="tunesmith.engine.cadence tunesmith.runs.plan",
    )
    per_epoch: float | None = key(
        None,
        "So many times an epoch.",
        flat="evals_per_epoch",
        when=has_held_out,
        why="there is no held-out data",
        le=1_000_000,
        ge=0,
        readers="tunesmith.engine.cadence tunesmith.runs.plan",
    )
    first: bool = key(
        False,
        "Evaluate before the first step too.",
        flat="eval_first",
        readers="tunesmith.engine.cadence",
    )
