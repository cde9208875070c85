"""Section ``guard``: what is done when a step's numbers go bad."""

from __future__ import annotations

from typing import Literal

from tunesmith.config.section import Section, key


class GuardSection(Section):
    """When a run stops by itself, and when it goes on."""

    on_nonfinite: Literal["stop", "skip", "rollback"] = key(
        "stop",
        "What is done about a step whose loss or gradient is not finite, which is never applied. "
        "`stop`: end with exit code 4. `skip`: leave it out and go on, 25 in a row at most. "
        "`rollback`: load the last checkpoint and pass over the step's rows, three times at most. "
        "What was left out is written into `ledger.json`.",
        flat="on_nonfinite",
        readers="tunesmith.runs.guarding",
    )
    loss_threshold: float | None = key(
        None,
        "Stop with exit code 4 (or roll back, with `on_nonfinite: rollback`) when the loss is "
        "above this for `loss_watchdog_patience` steps.",
        flat="loss_watchdog_threshold",
        ge=0,
        le=1_000_000_000,
        readers="tunesmith.runs.guarding",
    )
    loss_patience: int = key(
        3,
        "Steps in a row with a loss above `loss_watchdog_threshold` that are too many.",
        flat="loss_watchdog_patience",
        when=lambda c: c.guard.loss_threshold is not None,
        why="loss_watchdog_threshold is not set",
        ge=1,
        le=1_000_000,
        readers="tunesmith.runs.guarding",
    )
