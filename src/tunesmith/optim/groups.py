"""Parameters become groups: which are decayed, and at which rate they learn."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

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
    is_embedding: bool = False


def build_groups(module: nn.Module, section: OptimSection) -> list[ParamGroup]:
    """The trainable parameters of ``module``: those that are decayed, embeddings apart, and others.

    Not decayed are biases and norms, found as transformers' Trainer finds them: by name, or by
    being inside an ``nn.LayerNorm``. Empty groups are left out.
    Raises ``ModelError`` where nothing trains.
    """
    norms = prefixes_of(module, nn.LayerNorm)
    tables = prefixes_of(module, nn.Embedding)
    decayed = ParamGroup("decayed", {}, section.learning_rate, section.weight_decay)
    embeddings = replace(decayed, name="embeddings", parameters={}, is_embedding=True)
    plain = ParamGroup("plain", {}, section.learning_rate, 0.0)
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        if not is_decayed(name, norms):
            plain.parameters[name] = parameter
        elif name.startswith(tables):
            embeddings.parameters[name] = parameter
        else:
            decayed.parameters[name] = parameter
    groups = [group for group in (decayed, embeddings, plain) if group.parameters]
    if not groups:
        raise ModelError(
            "no parameter of the model trains",
            hint="set `adapter`, or unfreeze some parameters",
        )
    return groups


def prefixes_of(module: nn.Module, kind: type[nn.Module]) -> tuple[str, ...]:
    """The prefixes of every parameter that lies inside a ``kind`` below ``module``."""
    return tuple(
        f"{name}." for name, child in module.named_modules() if name and isinstance(child, kind)
    )


def is_decayed(name: str, norms: tuple[str, ...]) -> bool:
    """Whether weight decay applies to the parameter ``name``."""
    return not name.startswith(norms) and UNDECAYED_NAMES.search(name.lower()) is None
