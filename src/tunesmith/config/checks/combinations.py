"""Rules for arguments of schedules and optimizers, warm-ups and parts of data sets.

Types and bounds allow what they refuse; only a run would refuse it otherwise.

The arguments of schedules and optimizers stand here as words, since their own code imports torch;
`tests/unit/config/test_combinations.py` holds the tables to the signatures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunesmith.config.checks.data import entries
from tunesmith.config.checks.rule import Rule, conflict, missing, out_of_range
from tunesmith.config.optim import OWN_ARGS, args_of
from tunesmith.config.schema import RunConfig
from tunesmith.errors import REMOVE, Problem
from tunesmith.registry import nearest

SCHEDULE_ARGS: Mapping[str, str] = {
    "constant": "",
    "constant_with_warmup": "",
    "linear": "",
    "cosine": "num_cycles min_lr_rate",
    "cosine_with_min_lr": "num_cycles min_lr min_lr_rate",
    "cosine_warmup_with_min_lr": "num_cycles min_lr min_lr_rate warmup_lr_rate",
    "cosine_with_restarts": "num_cycles",
    "polynomial": "lr_end power",
    "inverse_sqrt": "timescale",
    "warmup_stable_decay": "num_decay_steps num_stable_steps warmup_type decay_type min_lr_ratio "
    "num_cycles",
    "one_cycle": "pct_start anneal_strategy div_factor final_div_factor three_phase cycle_momentum "
    "base_momentum max_momentum",
    "rex": "min_lr_rate",
}
"""What ``lr_scheduler_kwargs`` may hold for each of our schedules."""

FLOORED = ("cosine_with_min_lr", "cosine_warmup_with_min_lr")
"""Schedules whose floor must be given, in one of two ways."""

RISING = ("cosine_warmup_with_min_lr", "one_cycle", "rex")
"""Schedules whose warm-up does not begin at rate 0."""

_ADAM = "betas eps amsgrad"
OPTIMIZER_ARGS: Mapping[str, str] = {
    "adamw_torch": f"{_ADAM} maximize foreach capturable differentiable",
    "adamw_torch_fused": f"{_ADAM} maximize foreach capturable differentiable",
    "sgd": "momentum dampening nesterov maximize foreach differentiable",
}
"""What ``optim_args`` may hold for each optimizer of torch. bitsandbytes answers for its own."""

ROUNDED_ARGS = "betas eps"
"""The same where bf16 weights and moments are rounded stochastically."""


def schedule_arguments(config: RunConfig) -> Iterator[Problem]:
    """A schedule gets the arguments that it takes, and those that it cannot be without."""
    optim = config.optim
    given, known = optim.schedule_args or {}, SCHEDULE_ARGS.get(optim.schedule)
    if known is None:
        return  # a plugin's own, or one that another rule refuses
    unknown = [name for name in given if name not in known.split()]
    if unknown:
        yield _unknown("lr_scheduler_kwargs", f"`{optim.schedule}`", unknown[0], known, given)
    elif optim.schedule in FLOORED:
        yield from _one_floor(given)
    elif optim.schedule == "warmup_stable_decay" and "num_decay_steps" not in given:
        yield missing(
            "lr_scheduler_kwargs",
            "`warmup_stable_decay` does not know how many steps it decays",
            {"lr_scheduler_kwargs": {**given, "num_decay_steps": 100}},
            "add `num_decay_steps` to `lr_scheduler_kwargs`",
        )
    elif optim.schedule == "polynomial":
        yield from _falls(given, optim.learning_rate)


def _unknown(key: str, whose: str, name: str, known: str, given: Mapping[str, Any]) -> Problem:
    rest = {other: value for other, value in given.items() if other != name}
    own, meant = OWN_ARGS.get(name), nearest(name, known.split())
    if own:
        fix = f"take `{name}` out of `{key}`; `{own}` sets it"
    elif meant:
        fix = f"did you mean `{meant}`? If not, take `{name}` out of `{key}`"
    else:
        takes = ", ".join(known.split()) or "no arguments"
        fix = f"take `{name}` out of `{key}`: {whose} takes {takes}"
    return out_of_range(key, f"{whose} takes no `{name}` here", {key: rest or REMOVE}, fix)


def _one_floor(given: Mapping[str, Any]) -> Iterator[Problem]:
    if ("min_lr" in given) == ("min_lr_rate" in given):
        rest = {name: value for name, value in given.items() if name != "min_lr"}
        yield missing(
            "lr_scheduler_kwargs",
            "this schedule has a floor: one of `min_lr` and `min_lr_rate`",
            {"lr_scheduler_kwargs": {"min_lr_rate": 0.1, **rest}},
            "give `lr_scheduler_kwargs` one of the two, such as `min_lr_rate: 0.1`",
        )


def _falls(given: Mapping[str, Any], rate: float) -> Iterator[Problem]:
    """``polynomial`` ends below its peak, which its default (1e-7) need not do."""
    end = given.get("lr_end", 1e-7)
    if isinstance(end, int | float) and end >= rate:
        yield conflict(
            "lr_scheduler_kwargs",
            f"`lr_end` ({end:g}) is not below `learning_rate: {rate:g}`",
            {"lr_scheduler_kwargs": {**given, "lr_end": 0.0}},
            "set `lr_end` in `lr_scheduler_kwargs` below `learning_rate`",
        )


def optimizer_arguments(config: RunConfig) -> Iterator[Problem]:
    """An optimizer of torch gets arguments that it takes."""
    optim = config.optim
    known = OPTIMIZER_ARGS.get(optim.optimizer)
    if known is None or not optim.args:
        return
    given, odd = args_of(optim.args)
    if odd:
        yield out_of_range(
            "optim_args",
            f"`{odd[0]}` is no `name=value`",
            {"optim_args": REMOVE},
            "write `name=value,...`, or take it out",
        )
        return
    unknown = [name for name in given if name not in known.split()]
    if unknown:
        yield _unknown("optim_args", f"`{optim.optimizer}`", unknown[0], known, given)
    elif optim.optimizer != "sgd" and may_round(config):
        beyond = [name for name in given if name not in ROUNDED_ARGS.split()]
        if beyond:
            yield conflict(
                "optim_args",
                f"`{beyond[0]}` is not for weights that are trained in bf16",
                {"master_weights": "fp32"},
                f"use `master_weights: fp32`, or take `{beyond[0]}` out",
            )


def may_round(config: RunConfig) -> bool:
    """Whether a full fine-tuning keeps its weights in bf16 here or on some other machine."""
    precision = config.precision
    return (
        config.adapters.kind is None
        and precision.bf16 is not False
        and not precision.fp16
        and precision.master_weights != "fp32"
    )


def something_is_learned(config: RunConfig) -> Iterator[Problem]:
    """A share of warm-up, or any in a run of one step, leaves some step a rate above 0.

    The first step of a linear warm-up has rate 0. Longer runs with ``warmup_steps`` are another
    rule's.
    """
    optim, steps = config.optim, config.batch.max_steps
    if steps is None or optim.schedule in ("constant", *RISING):
        return
    if optim.warmup_steps is not None:
        key, count = "warmup_steps", optim.warmup_steps if steps == 1 else 0
    else:
        key, count = "warmup_ratio", int((optim.warmup_ratio or 0) * steps)
    if count and count >= steps:
        yield conflict(
            key,
            f"all of the {steps} steps are warm-up: the full rate is never reached",
            {key: REMOVE},
        )


def parts_exist(config: RunConfig) -> Iterator[Problem]:
    """The part of a data set that is asked for is one of its parts."""
    for key, entry in entries(config):
        parts = entry.shards or 1
        if entry.shards_idx >= parts:
            edit = parts - 1 if parts > 1 else REMOVE
            yield conflict(
                f"{key}.shards_idx",
                f"there are {parts} `shards`, counted from 0"
                if parts > 1
                else "`shards` is not set",
                {f"{key}.shards_idx": edit},
            )
    data = config.data
    if 1 < data.shards <= data.shard_index:
        yield conflict(
            "dataset_shard_idx",
            f"there are {data.shards} parts, counted from 0",
            {"dataset_shard_idx": data.shards - 1},
        )


def split_rows_are_as_long(config: RunConfig) -> Iterator[Problem]:
    """Rows that are split off the training data were measured by its own length."""
    packing = config.packing
    longest = packing.eval_sequence_len
    if longest is not None and longest < packing.sequence_len and config.data.val_set_size:
        yield conflict(
            "eval_sequence_len",
            f"rows that `val_set_size` splits off have up to {packing.sequence_len} tokens",
            {"eval_sequence_len": REMOVE},
            "take `eval_sequence_len` out; `test_datasets` can have shorter rows",
        )


RULES: tuple[Rule, ...] = (
    Rule(("eval_sequence_len", "sequence_len", "val_set_size"), split_rows_are_as_long),
    Rule(("lr_scheduler", "lr_scheduler_kwargs", "learning_rate"), schedule_arguments),
    Rule(
        ("optimizer", "optim_args", "adapter", "bf16", "fp16", "master_weights"),
        optimizer_arguments,
    ),
    Rule(
        ("warmup_steps", "warmup_ratio", "max_steps", "lr_scheduler"),
        something_is_learned,
    ),
    Rule(
        ("datasets", "test_datasets", "dataset_shard_num", "dataset_shard_idx"),
        parts_exist,
    ),
)
