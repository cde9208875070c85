"""The one door to every other optimizer: ``optimizer: package:Class``, and names that mean one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from tunesmith.config.optim import PACKAGED, OptimSection
from tunesmith.errors import ModelError, TunesmithError
from tunesmith.registry import resolve


def optimizer_class(section: OptimSection) -> type[torch.optim.Optimizer]:
    """The class that `optimizer` names.

    Raises:
        ModelError: it cannot be imported, or is no optimizer.
    """
    target = PACKAGED.get(section.optimizer, section.optimizer)
    package = target.partition(":")[0].partition(".")[0]
    try:
        found = resolve(target)
    except TunesmithError as error:
        raise ModelError(
            f"`optimizer: {section.optimizer}` is `{target}`, which cannot be loaded: {error}",
            hint=f"install the package of `{package}`, or use `optimizer: adamw_torch_fused`",
            where="optimizer",
        ) from error
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise ModelError(
            f"`{target}` is no class of optimizers",
            hint="name a subclass of `torch.optim.Optimizer`, as `module:Class`",
            where="optimizer",
        )
    return found


def arguments_of(kind: type[torch.optim.Optimizer], section: OptimSection) -> dict[str, Any]:
    """What of `adam_beta1`, `adam_beta2` and `adam_epsilon` its constructor takes, where they were
    changed from their defaults: a class's own defaults stay otherwise.
    """
    takes: Mapping[str, inspect.Parameter] = inspect.signature(kind).parameters
    found: dict[str, Any] = {}
    if "betas" in takes and (section.beta1, section.beta2) != (0.9, 0.999):
        rest = tuple(takes["betas"].default or ())[2:]
        found["betas"] = (section.beta1, section.beta2, *rest)
    if "eps" in takes and section.epsilon != 1e-8:
        found["eps"] = section.epsilon
    return found
