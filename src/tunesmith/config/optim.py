"""Sections ``optim`` and ``batch``: optimizer, schedule, batch sizes, steps, seed."""

from __future__ import annotations

from typing import Any

from tunesmith.config.section import Section, key


class OptimSection(Section):
    """How weights are updated."""

    learning_rate: float = key(
        ..., "The peak rate.", flat="learning_rate", gt=0, readers="tunesmith.optim.groups"
    )
    optimizer: str = key(
        "adamw_torch_fused",
        "The optimizer's name.",
        flat="optimizer",
        readers="tunesmith.optim.build",
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
        ge=0,
        readers="tunesmith.optim.groups",
    )
    beta1: float = key(
        0.9, "Adam's first beta.", flat="adam_beta1", ge=0, lt=1, readers="tunesmith.optim.build"
    )
    beta2: float = key(
        0.999, "Adam's second beta.", flat="adam_beta2", ge=0, lt=1, readers="tunesmith.optim.build"
    )
    epsilon: float = key(
        1e-8, "Adam's epsilon.", flat="adam_epsilon", gt=0, readers="tunesmith.optim.build"
    )
    max_grad_norm: float = key(
        1.0,
        "Clip the gradient's global norm; 0 turns it off.",
        flat="max_grad_norm",
        ge=0,
        readers="tunesmith.optim.clip",
    )
    schedule: str = key(
        "cosine", "The schedule's name.", flat="lr_scheduler", readers="tunesmith.optim.schedules"
    )
    schedule_args: dict[str, Any] | None = key(
        None,
        "Its further arguments.",
        flat="lr_scheduler_kwargs",
        readers="tunesmith.optim.schedules",
    )
    warmup_steps: int | None = key(
        None, "Steps of linear warm-up.", flat="warmup_steps", ge=0, readers="tunesmith.runs.plan"
    )
    warmup_ratio: float | None = key(
        None,
        "The same as a share of all steps.",
        flat="warmup_ratio",
        ge=0,
        le=1,
        readers="tunesmith.runs.plan",
    )
    cosine_min_lr_ratio: float | None = key(
        None,
        "Where cosine ends, as a share of the peak.",
        flat="cosine_min_lr_ratio",
        ge=0,
        le=1,
        readers="tunesmith.optim.schedules",
    )


class BatchSection(Section):
    """How much data a step takes, and how many steps there are."""

    micro_batch_size: int | None = key(
        None, "Rows a forward takes.", flat="micro_batch_size", ge=1, readers="tunesmith.runs.plan"
    )
    accumulation: int | None = key(
        None,
        "Micro-batches a step sums.",
        flat="gradient_accumulation_steps",
        ge=1,
        readers="tunesmith.runs.plan",
    )
    batch_size: int | None = key(
        None,
        "Rows a step takes on one device: micro_batch_size x gradient_accumulation_steps.",
        flat="batch_size",
        ge=1,
        readers="tunesmith.runs.plan",
    )
    eval_batch_size: int | None = key(
        None,
        "Rows a forward takes in evaluation.",
        flat="eval_batch_size",
        ge=1,
        readers="tunesmith.runs.plan",
    )
    num_epochs: float = key(
        1.0, "Passes over the data.", flat="num_epochs", gt=0, readers="tunesmith.runs.plan"
    )
    max_steps: int | None = key(
        None,
        "Exactly this many steps, whatever `num_epochs` says.",
        flat="max_steps",
        ge=1,
        readers="tunesmith.runs.plan",
    )
    seed: int = key(
        42,
        "Seeds order, adapters and dropout.",
        flat="seed",
        ge=0,
        readers="tunesmith.runs.assemble",
    )
    workers: int | None = key(
        None,
        "Threads that collate ahead.",
        flat="dataloader_num_workers",
        ge=0,
        readers="tunesmith.data.stream",
    )
