"""Sections ``optim`` and ``batch``: optimizer, schedule, batch sizes, steps, seed."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from pydantic import field_validator

from tunesmith.config.section import Section, key
from tunesmith.config.when import has_adapter, has_held_out, warms_up

OWN_ARGS: Mapping[str, str] = {
    "lr": "learning_rate",
    "weight_decay": "weight_decay",
    "fused": "optimizer",
}
"""Arguments of optimizers that have a key of their own: ``optim_args`` would set them in vain."""


PACKAGED: Mapping[str, str] = {
    "came_pytorch": "came_pytorch:CAME",
    "flash_adam": "flashoptim:FlashAdam",
    "flash_adamw": "flashoptim:FlashAdamW",
    "flash_lion": "flashoptim:FlashLion",
    "flash_sgd": "flashoptim:FlashSGD",
    "flash_sgdw": "flashoptim:FlashSGDW",
    "grokadamw": "grokadamw:GrokAdamW",
    "lion_pytorch": "lion_pytorch:Lion",
    "optimi_adamw": "optimi:AdamW",
    "stable_adamw": "optimi:StableAdamW",
}
"""axolotl's names for optimizers that are a class of some package."""


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


def uses_betas(config: Any) -> bool:
    """The optimizer has betas as Adam has, or may have."""
    name = config.optim.optimizer
    return name != "adafactor" and any(
        word in name for word in ("adam", "adem", "came", "lion", "muon", ":")
    )


def uses_epsilon(config: Any) -> bool:
    """It divides by a root, or may do so."""
    return uses_betas(config) and "lion" not in str(config.optim.optimizer)


def restarts(config: Any) -> bool:
    """The schedule is cut into pieces that warm up again."""
    return config.optim.restart_steps is not None


class RateGroup(Section):
    """Parameters that learn at a rate of their own."""

    name: str = key(..., "What it is called.", readers="tunesmith.optim.groups")
    modules: tuple[str, ...] = key(
        ...,
        "Texts, one of which stands in the names of its parameters.",
        min_length=1,
        readers="tunesmith.optim.groups",
    )
    lr: float = key(..., "The peak rate.", ge=0, le=100, readers="tunesmith.optim.groups")


class OptimSection(Section):
    """How weights are updated."""

    @field_validator("restart_steps", "restart_warmup_steps", "restart_anneal_steps", mode="before")
    @classmethod
    def _take_false_for_nothing(cls, value: Any) -> Any:
        """None for false, as which some configs leave them."""
        return None if value is False else value

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
        "The optimizer's name, or any class of optimizers as `module:Class`.",
        flat="optimizer",
        readers="tunesmith.optim.build tunesmith.optim.elsewhere tunesmith.runs.memory "
        "tunesmith.runs.precision",
    )
    args: dict[str, Any] | str | None = key(
        None,
        "Further arguments of the optimizer.",
        flat="optim_args",
        readers="tunesmith.optim.build",
    )
    embedding_rate: float | None = key(
        None,
        "The peak rate of embeddings and of the head, where they train.",
        flat="embedding_lr",
        ge=0,
        le=100,
        readers="tunesmith.optim.groups",
    )
    embedding_scale: float | None = key(
        None,
        "The same as a multiple of `learning_rate`.",
        flat="embedding_lr_scale",
        ge=0,
        le=1_000_000,
        readers="tunesmith.optim.groups",
    )
    rate_groups: tuple[RateGroup, ...] = key(
        (),
        "Further groups with a rate of their own: `name`, `modules` and `lr`. Of two that a "
        "parameter's name fits, the first holds it.",
        flat="lr_groups",
        readers="tunesmith.optim.groups",
    )
    loraplus_ratio: float | None = key(
        None,
        "LoRA+: the rate of the second factors (B) and of vectors, as a multiple of the first "
        "factors' (A).",
        flat="loraplus_lr_ratio",
        when=has_adapter,
        why="adapter is not set",
        gt=0,
        le=1_000_000,
        readers="tunesmith.optim.groups",
    )
    loraplus_embedding_rate: float = key(
        1e-6,
        "LoRA+: the rate of adapters of embeddings.",
        flat="loraplus_lr_embedding",
        when=lambda c: has_adapter(c) and c.optim.loraplus_ratio is not None,
        why="loraplus_lr_ratio is not set",
        ge=0,
        le=100,
        readers="tunesmith.optim.groups",
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
        when=uses_betas,
        why="the optimizer is no Adam",
        ge=0,
        lt=1,
        readers="tunesmith.optim.build tunesmith.optim.elsewhere",
    )
    beta2: float = key(
        0.999,
        "Adam's second beta.",
        flat="adam_beta2",
        when=uses_betas,
        why="the optimizer is no Adam",
        ge=0,
        lt=1,
        readers="tunesmith.optim.build tunesmith.optim.elsewhere",
    )
    epsilon: float = key(
        1e-8,
        "Adam's epsilon.",
        flat="adam_epsilon",
        when=uses_epsilon,
        why="the optimizer is no Adam",
        le=1,
        gt=0,
        readers="tunesmith.optim.build tunesmith.optim.elsewhere",
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
        when=lambda c: c.optim.schedule in ("cosine", "rex"),
        why="lr_scheduler is neither cosine nor rex",
        ge=0,
        le=1,
        readers="tunesmith.optim.schedules",
    )
    cosine_constant_lr_ratio: float | None = key(
        None,
        "The share of all steps after which cosine has come to `cosine_min_lr_ratio`, where it "
        "stays.",
        when=lambda c: c.optim.schedule == "cosine" and bool(c.optim.cosine_min_lr_ratio),
        why="lr_scheduler is not cosine with a cosine_min_lr_ratio",
        gt=0,
        le=1,
        readers="tunesmith.optim.schedules",
    )
    quadratic_warmup: bool = key(
        False,
        "Warm up with the square of the share of the warm-up that is done: slower at first.",
        flat="lr_quadratic_warmup",
        when=lambda c: c.optim.schedule == "cosine",
        why="lr_scheduler is not cosine",
        readers="tunesmith.optim.schedules",
    )
    restart_steps: int | None = key(
        None,
        "Let the rate fall almost to 0 every so many steps and warm up again, whatever the "
        "schedule.",
        flat="jagged_restart_steps",
        ge=2,
        le=1_000_000_000,
        readers="tunesmith.optim.schedules",
    )
    restart_warmup_steps: int | None = key(
        None,
        "Steps of the warm-up after each restart, by default 10.",
        flat="jagged_restart_warmup_steps",
        when=restarts,
        why="jagged_restart_steps is not set",
        ge=1,
        le=1_000_000_000,
        readers="tunesmith.optim.schedules",
    )
    restart_anneal_steps: int | None = key(
        None,
        "Steps over which the rate falls before each restart, by default 1.",
        flat="jagged_restart_anneal_steps",
        when=restarts,
        why="jagged_restart_steps is not set",
        ge=1,
        le=1_000_000_000,
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
        readers="tunesmith.runs.assemble tunesmith.runs.plan tunesmith.runs.preflight.source_rows "
        "tunesmith.runs.prepare tunesmith.runs.request",
    )
    workers: int | None = key(
        None,
        "Threads that collate ahead.",
        flat="dataloader_num_workers",
        le=1024,
        ge=0,
        readers="tunesmith.runs.plan",
    )
