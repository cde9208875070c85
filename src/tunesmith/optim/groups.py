"""Parameters become groups: which are decayed, and at which rate they learn."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn

from tunesmith.config.optim import OptimSection
from tunesmith.errors import ModelError

UNDECAYED_NAMES = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")
"""Names (in lower case) that are never decayed, by transformers' rule."""


@dataclass(frozen=True, slots=True)
class ParamGroup:
    """Parameters by name that share a peak rate and a decay."""

    name: str
    parameters: dict[str, nn.Parameter]
    rate: float
    weight_decay: float


def build_groups(module: nn.Module, section: OptimSection) -> list[ParamGroup]:
    """The trainable parameters of ``module``: those that are decayed, then the others.

    Not decayed are biases and norms, found as transformers' Trainer finds them: by name, or by
    being inside an ``nn.LayerNorm``. Empty groups are left out.
    Raises ``ModelError`` where nothing trains.
    """
    norms = layer_norm_prefixes(module)
    decayed: dict[str, nn.Parameter] = {}
    plain: dict[str, nn.Parameter] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            chosen = decayed if is_decayed(name, norms) else plain
            chosen[name] = parameter
    groups = [
        ParamGroup("decayed", decayed, section.learning_rate, section.weight_decay),
        ParamGroup("plain", plain, section.learning_rate, 0.0),
    ]
    groups = [group for group in groups if group.parameters]
    if not groups:
        raise ModelError(
            "no parameter of the model trains",
            hint="set `adapter`, or unfreeze some parameters",
        )
    return groups


def layer_norm_prefixes(module: nn.Module) -> tuple[str, ...]:
    """The prefixes of every parameter that lies inside an ``nn.LayerNorm`` below ``module``."""
    return tuple(
        f"{name}."
        for name, child in module.named_modules()
        if name and isinstance(child, nn.LayerNorm)
    )


def is_decayed(name: str, norms: tuple[str, ...]) -> bool:
    """Whether weight decay applies to the parameter ``name``."""
    return not name.startswith(norms) and UNDECAYED_NAMES.search(name.lower()) is None
