"""Rules for what hangs on evaluations: the best checkpoint, stopping early, benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from tunesmith.config.checks.asked import Asked
from tunesmith.config.checks.rule import PlainRule, conflict, missing
from tunesmith.errors import REMOVE, Problem

_EXAMPLE = 100


def best_has_a_metric(asked: Asked) -> Iterator[Problem]:
    """Which checkpoint is the best one is said by a metric."""
    if asked.text("save_strategy") == "best" and not asked.on("metric_for_best_model"):
        yield missing(
            "metric_for_best_model",
            "`save_strategy: best` needs it: best by what?",
            {"metric_for_best_model": "loss"},
        )


def stopping_has_schedules(asked: Asked) -> Iterator[Problem]:
    """Stopping early counts evaluations and goes back to a saved step, so both are in steps."""
    lacking = [key for key in ("eval_steps", "save_steps") if not asked.on(key)]
    if not asked.on("early_stopping_patience") or not lacking:
        return
    given = asked.number("eval_steps") or asked.number("save_steps") or _EXAMPLE
    edit: dict[str, Any] = dict.fromkeys(lacking, given)
    for key in lacking:
        word = key.removesuffix("_steps")
        if asked.on(f"{word}s_per_epoch"):
            edit[f"{word}s_per_epoch"] = REMOVE
        if asked.get(f"{word}_strategy") not in (None, "steps"):
            edit[f"{word}_strategy"] = "steps"
    yield missing(
        "early_stopping_patience",
        f"stopping early needs {' and '.join(f'`{key}`' for key in lacking)}",
        edit,
    )


def saves_fall_on_evaluations(asked: Asked) -> Iterator[Problem]:
    """Where training stops early, every save stands at a step that is evaluated."""
    every, save = asked.number("eval_steps"), asked.number("save_steps")
    if not asked.on("early_stopping_patience") or not every or not save:
        return
    same_unit = (every < 1) == (save < 1)
    if same_unit and Fraction(str(save)) % Fraction(str(every)):
        yield conflict(
            "save_steps",
            f"is {save}, no multiple of `eval_steps: {every}`: a save would have no evaluation",
            {"save_steps": every},
        )


def benchmarks_have_a_schedule(asked: Asked) -> Iterator[Problem]:
    """Benchmarks run where evaluations do."""
    schedules = ("eval_steps", "evals_per_epoch")
    if asked.on("do_bench_eval") and not any(asked.on(key) for key in schedules):
        yield missing(
            "do_bench_eval",
            "no evaluation is scheduled, in which benchmarks could run",
            {"evals_per_epoch": 1},
        )


RULES: tuple[PlainRule, ...] = (
    PlainRule(("metric_for_best_model",), best_has_a_metric),
    PlainRule(("early_stopping_patience", "eval_steps", "save_steps"), stopping_has_schedules),
    PlainRule(("early_stopping_patience", "eval_steps", "save_steps"), saves_fall_on_evaluations),
    PlainRule(("do_bench_eval", "eval_steps", "evals_per_epoch"), benchmarks_have_a_schedule),
)
