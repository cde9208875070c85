"""A module that is handed in for the base model: checked, put in place, given back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from tunesmith.errors import ModelError
from tunesmith.models.quantize import is_quantized
from tunesmith.models.repacking import keep_values
from tunesmith.parallel.blocks import release_blocks
from tunesmith.patches.lora import release_adapters
from tunesmith.runs.plan import RunPlan


def adopt(model: PreTrainedModel, plan: RunPlan, device: torch.device) -> None:
    """Move a module of the caller's to the run's device, in place.

    Raises:
        ModelError: it is of another architecture than the base model that the config names.
    """
    if model.config.model_type != plan.architecture.model_type:
        raise ModelError(
            f"the module that was handed in is a {model.config.model_type}, "
            f"base_model a {plan.architecture.model_type}",
            hint="name the model that the module was made from in base_model",
            where="base_model",
        )
    if not is_quantized(model):
        model.to(device)
    keep_values(model)


@contextmanager
def lent(model: PreTrainedModel | None, plan: RunPlan) -> Iterator[None]:
    """The caller's module is treated as the plan says inside, and as it was afterwards."""
    if model is None:
        yield
        return
    before = model.config._attn_implementation
    model.set_attn_implementation(plan.attention.value)
    try:
        yield
    finally:
        release_blocks(model)
        release_adapters(model)
        model.set_attn_implementation(before)
