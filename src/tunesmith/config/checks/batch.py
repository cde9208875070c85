"""Rules for batch sizes, steps and schedules."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith.config.checks.rule import Rule, conflict, missing, out_of_range
from tunesmith.config.schema import RunConfig
from tunesmith.errors import REMOVE, Problem


def batch_arithmetic(config: RunConfig) -> Iterator[Problem]:
    """Enough sizes to know the others, and sizes that agree."""
    micro, accumulation = config.batch.micro_batch_size, config.batch.accumulation
    batch = config.batch.batch_size
    if micro is None and batch is None:
        yield missing(
            "micro_batch_size",
            "how many rows a forward takes is not given",
            {"micro_batch_size": 1},
            "add `micro_batch_size: 1` and raise it while memory lasts",
        )
    elif micro is None and accumulation is None:
        yield missing(
            "micro_batch_size",
            f"`batch_size: {batch}` can be split in many ways",
            {"micro_batch_size": 1},
            "add `micro_batch_size: 1`, or more of it, or `gradient_accumulation_steps`",
        )
    elif batch is not None:
        yield from _batch_size_fits(batch, micro, accumulation)


def _batch_size_fits(batch: int, micro: int | None, accumulation: int | None) -> Iterator[Problem]:
    if micro is not None and accumulation is not None:
        if micro * accumulation != batch:
            yield conflict(
                "batch_size",
                f"is {batch}, but micro_batch_size x gradient_accumulation_steps is "
                f"{micro * accumulation}",
                {"batch_size": REMOVE},
            )
        return
    name = "micro_batch_size" if micro is not None else "gradient_accumulation_steps"
    part = micro or accumulation or 1
    if batch % part:
        fitting = batch - batch % part or part
        yield conflict(
            "batch_size",
            f"{batch} is not a multiple of `{name}: {part}`",
            {"batch_size": fitting},
            f"use `batch_size: {fitting}` or `{batch - batch % part + part}`",
        )


def warmup_once(config: RunConfig) -> Iterator[Problem]:
    """The warm-up is given in steps or as a share, not both."""
    if config.optim.warmup_steps is not None and config.optim.warmup_ratio is not None:
        yield conflict(
            "warmup_ratio",
            "`warmup_steps` says the same in another way",
            {"warmup_ratio": REMOVE},
            "keep one: take `warmup_ratio` out, or `warmup_steps`",
        )


def warmup_fits(config: RunConfig) -> Iterator[Problem]:
    """The warm-up ends before the run does."""
    warmup, steps = config.optim.warmup_steps, config.batch.max_steps
    if warmup is not None and steps is not None and warmup >= steps > 1:
        yield conflict(
            "warmup_steps",
            f"{warmup} steps of warm-up in a run of {steps}: the full rate is never reached",
            {"warmup_steps": steps // 10},
        )


def save_schedule(config: RunConfig) -> Iterator[Problem]:
    """When to save is said once."""
    section = config.checkpoint
    yield from _one_schedule("save", section.strategy, section.steps, section.per_epoch)


def eval_schedule(config: RunConfig) -> Iterator[Problem]:
    """When to evaluate is said once."""
    section = config.evaluation
    yield from _one_schedule("eval", section.strategy, section.steps, section.per_epoch)


def _one_schedule(
    word: str, strategy: str | None, steps: float | None, per_epoch: float | None
) -> Iterator[Problem]:
    if steps is not None and per_epoch:
        yield conflict(
            f"{word}s_per_epoch",
            f"`{word}_steps` says the same in another way",
            {f"{word}s_per_epoch": REMOVE},
            f"keep one: take `{word}s_per_epoch` out, or `{word}_steps`",
        )
    elif steps is not None and strategy not in (None, "steps"):
        yield conflict(
            f"{word}_steps",
            f"has no meaning with `{word}_strategy: {strategy}`",
            {f"{word}_strategy": "steps"},
            f"use `{word}_strategy: steps`, or take `{word}_steps` out",
        )
    elif per_epoch and strategy not in (None, "steps"):
        yield conflict(
            f"{word}s_per_epoch",
            f"has no meaning with `{word}_strategy: {strategy}`",
            {f"{word}_strategy": "steps"},
            f"use `{word}_strategy: steps`, or take `{word}s_per_epoch` out",
        )
    if steps is not None and steps > 1 and steps != int(steps):
        yield out_of_range(
            f"{word}_steps",
            f"{steps} is neither a number of steps nor a share below 1",
            {f"{word}_steps": int(steps)},
        )


RULES: tuple[Rule, ...] = (
    Rule(("micro_batch_size", "gradient_accumulation_steps", "batch_size"), batch_arithmetic),
    Rule(("warmup_steps", "warmup_ratio"), warmup_once),
    Rule(("warmup_steps", "max_steps"), warmup_fits),
    Rule(("save_strategy", "save_steps", "saves_per_epoch"), save_schedule),
    Rule(("eval_strategy", "eval_steps", "evals_per_epoch"), eval_schedule),
)
