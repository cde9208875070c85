"""The words of schedules and optimizers in the config are those of their code."""

from __future__ import annotations

import inspect

import pytest
import torch

from tests.unit.config.broken import RIGHT
from tunesmith.config.checks.combinations import (
    FLOORED,
    OPTIMIZER_ARGS,
    RISING,
    ROUNDED_ARGS,
    SCHEDULE_ARGS,
)
from tunesmith.config.optim import OWN_ARGS, OptimSection
from tunesmith.config.read import load
from tunesmith.optim.adamw_bf16 import AdamWBf16
from tunesmith.optim.schedules import build_schedule
from tunesmith.registry import registry


def test_every_schedule_and_its_arguments_are_named() -> None:
    found = {
        name: " ".join([*inspect.signature(registry("schedules").load(name)).parameters][1:])
        for name in registry("schedules")
    }
    assert found == {name: " ".join(words.split()) for name, words in SCHEDULE_ARGS.items()}


@pytest.mark.parametrize("name", sorted(SCHEDULE_ARGS))
def test_which_warm_ups_begin_at_rate_0(name: str) -> None:
    more = {"min_lr_rate": 0.1} if name in FLOORED else {}
    more |= {"num_decay_steps": 1} if name == "warmup_stable_decay" else {}
    section = OptimSection(learning_rate=1e-2, schedule=name, schedule_args=more)
    begins = build_schedule(section, steps=10, warmup_steps=5)(0)
    assert (begins == 0) == (name not in (*RISING, "constant"))


@pytest.mark.parametrize("name", sorted(OPTIMIZER_ARGS))
def test_every_argument_of_torchs_optimizers_is_named(name: str) -> None:
    kind = torch.optim.SGD if name == "sgd" else torch.optim.AdamW
    found = {*inspect.signature(kind).parameters} - {"params", *OWN_ARGS}
    assert found == set(OPTIMIZER_ARGS[name].split())


def test_every_argument_of_our_own_is_named() -> None:
    found = {*inspect.signature(AdamWBf16).parameters} - {"groups", "params", "seed", *OWN_ARGS}
    assert found == set(ROUNDED_ARGS.split())


@pytest.mark.parametrize(
    "more",
    [
        {"lr_scheduler": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-6}},
        {"lr_scheduler": "one_cycle", "lr_scheduler_kwargs": {"pct_start": 0.5}},
        {"optim_args": "betas=(0.9, 0.95),amsgrad=true", "bf16": False},
        {"optim_args": {"amsgrad": True}, "adapter": "lora", "lora_target_linear": True},
        {"optim_args": "betas=(0.9, 0.95),eps=1e-6"},
        {"max_steps": 1},
        {"max_steps": 1, "warmup_ratio": 0.5},
        {"max_steps": 1, "warmup_steps": 1, "lr_scheduler": "rex"},
        {"max_steps": 2, "warmup_ratio": 0.5},
        {"datasets": [{"path": "a", "shards": 2, "shards_idx": 1}]},
    ],
)
def test_what_works_is_left_alone(more: dict[str, object]) -> None:
    load({**RIGHT, **more})
