"""Sections ``optim`` and ``batch``: optimizer, schedule, batch sizes, steps, seed."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from tunesmith.config.section import Section, key
from tunesmith.config.when import has_held_out, uses_adam, warms_up

OWN_ARGS: Mapping[str, str] = {
    "lr": "learning_rate",
    "weight_decay": "weight_decay",
    "fused": "optimizer",
}
"""Arguments of optimizers that have a key of their own: ``optim_args`` would set them in vain."""


def args_of(args: Mapping[str, Any] | str | None) -> tuple[dict[str, Any], list[str]]:
    """``optim_args`` as keywords, and the parts of a text that are no ``name=value``.

    Values of a text are read as Python literals where they are such.
    """
    if not isinstance(args, str):
        return {str(name): value for name, value in (args or {}).items()}, []
    found: dict[str, Any] = {}
    odd: list[str] = []
    # A comma inside of brackets belongs to the value: betas=(0.9, 0.95).
    for part in re.split(r",(?![^(\[]*[)\]])", args):
        name, equals, value = part.partition("=")
        if equals and name.strip():
            found[name.strip()] = _literal(value.strip())
        else:
            odd.append(part.strip())
    return found, odd


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.title() if text in ("true", "false", "none") else text)
    except (ValueError, SyntaxError):
        return text


class OptimSection(Section):
    """How weights are updated."""

    learning_rate: float = key(
        ...,
        "The peak rate.",
        flat="learning_rate",
        le=100,
        gt=0,
        readers="tunesmith.optim.groups tunesmith.optim.schedules",
    )
    optimizer: str = key(
        "adamw_torch_fused",
        "The optimizer's name.",
        flat="optimizer",
        readers="tunesmith.optim.build tunesmith.runs.memory tunesmith.runs.precision",
    )
    args: dict[str, Any] | str | None = key(
        None,
        "Further arguments of the optimizer.",
        flat="optim_args",
        readers="tunesmith.optim.build",
    )
    weight_decay: float = key(
        0.0,
        "Decay of matrices; norms and biases have none.",
        flat="weight_decay",
        le=100,
        ge=0,
        readers="tunesmith.optim.groups",
    )
    beta1: float = key(
        0.9,
        "Adam's first beta.",
        flat="adam_beta1",
        when=uses_adam,
        why="the optimizer is no Adam",
        ge=0,
        lt=1,
        readers="tunesmith.optim.build",
    )
    beta2: float = key(
        0.999,
        "Adam's second beta.",
        flat="adam_beta2",
        when=uses_adam,
        why="the optimizer is no Adam",
        ge=0,
        lt=1,
        readers="tunesmith.optim.build",
    )
    epsilon: float = key(
        1e-8,
        "Adam's epsilon.",
        flat="adam_epsilon",
        when=uses_adam,
        why="the optimizer is no Adam",
        le=1,
        gt=0,
        readers="tunesmith.optim.build",
    )
    max_grad_norm: float = key(
        1.0,
        "Clip the gradient's global norm; 0 turns it off.",
        flat="max_grad_norm",
        le=1_000_000_000,
        ge=0,
        readers="tunesmith.runs.assemble",
    )
    schedule: str = key(
        "cosine",
        "The schedule's name.",
        flat="lr_scheduler",
        readers="tunesmith.optim.schedules tunesmith.runs.plan",
    )
    schedule_args: dict[str, Any] | None = key(
        None,
        "Its further arguments.",
        flat="lr_scheduler_kwargs",
        readers="tunesmith.optim.schedules",
    )
    warmup_steps: int | None = key(
        None,
        "Steps of linear warm-up.",
        flat="warmup_steps",
        when=warms_up,
        why="lr_scheduler: constant has no warm-up",
        le=1_000_000_000,
        ge=0,
        readers="tunesmith.optim.schedules tunesmith.runs.plan",
    )
    warmup_ratio: float | None = key(
        None,
        "The same as a share of all steps.",
        flat="warmup_ratio",
        when=warms_up,
        why="lr_scheduler: constant has no warm-up",
        ge=0,
        le=1,
        readers="tunesmith.optim.schedules tunesmith.runs.plan",
    )
    cosine_min_lr_ratio: float | None = key(
        None,
        "Where cosine ends, as a share of the peak.",
        flat="cosine_min_lr_ratio",
        when=lambda c: c.optim.schedule.startswith("cosine"),
        why="lr_scheduler is not cosine",
        ge=0,
        le=1,
        readers="tunesmith.optim.schedules",
    )


class BatchSection(Section):
    """How much data a step takes, and how many steps there are."""

    micro_batch_size: int | None = key(
        None,
        "Rows a forward takes.",
        flat="micro_batch_size",
        le=1_000_000,
        ge=1,
        readers="tunesmith.runs.batches",
    )
    accumulation: int | None = key(
        None,
        "Micro-batches a step sums.",
        flat="gradient_accumulation_steps",
        le=1_000_000,
        ge=1,
        readers="tunesmith.runs.batches",
    )
    batch_size: int | None = key(
        None,
        "Rows a step takes on one device: micro_batch_size x gradient_accumulation_steps.",
        flat="batch_size",
        le=1_000_000_000,
        ge=1,
        readers="tunesmith.runs.batches",
    )
    eval_batch_size: int | None = key(
        None,
        "Rows a forward takes in evaluation.",
        flat="eval_batch_size",
        when=has_held_out,
        why="there is no held-out data",
        le=1_000_000,
        ge=1,
        readers="tunesmith.runs.plan",
    )
    num_epochs: float = key(
        1.0,
        "Passes over the data.",
        flat="num_epochs",
        when=lambda c: c.batch.max_steps is None,
        why="max_steps is set",
        le=1_000_000,
        gt=0,
        readers="tunesmith.runs.plan",
    )
    max_steps: int | None = key(
        None,
        "Exactly this many steps, whatever `num_epochs` says.",
        flat="max_steps",
        le=1_000_000_000,
        ge=1,
        readers="tunesmith.runs.plan",
    )
    seed: int = key(
        42,
        "Seeds order, adapters and dropout.",
        flat="seed",
        lt=2**63,
        ge=0,
        readers="tunesmith.runs.assemble tunesmith.runs.plan tunesmith.runs.preflight.serving "
        "tunesmith.runs.prepare",
    )
    workers: int | None = key(
        None,
        "Threads that collate ahead.",
        flat="dataloader_num_workers",
        le=1024,
        ge=0,
        readers="tunesmith.runs.plan",
    )
