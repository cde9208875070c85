"""Parameters become groups: which are decayed, and at which rate they learn."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from tunesmith.config.optim import OptimSection
from tunesmith.errors import ModelError

EMBEDDINGS = ("embed_tokens", "lm_head")
"""Modules that axolotl takes for embeddings, beside the tables themselves."""

UNDECAYED_NAMES = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")
"""Names (in lower case) that are never decayed, by transformers' rule."""


Key = tuple[str, str, float]
"""The label of a group's own rate, "" for the common one; its kind; and the peak rate."""


@dataclass(frozen=True, slots=True)
class ParamGroup:
    """Parameters by name that share a peak rate and a decay."""

    name: str
    parameters: dict[str, nn.Parameter]
    rate: float
    weight_decay: float
    is_embedding: bool = False


def build_groups(module: nn.Module, section: OptimSection) -> list[ParamGroup]:
    """The trainable parameters of ``module``: those that are decayed, embeddings apart, and others,
    and each of these anew where it learns at a rate of its own.

    Not decayed are biases and norms, found as transformers' Trainer finds them: by name, or by
    being inside an ``nn.LayerNorm``. Groups at the common rate come first.
    Raises ``ModelError`` where nothing trains, or a group of `lr_groups` holds nothing.
    """
    if not any("lora_" in name for name, _ in module.named_parameters()):
        section = section.model_copy(update={"loraplus_ratio": None})
    norms = prefixes_of(module, nn.LayerNorm)
    tables = prefixes_of(module, nn.Embedding)
    common = section.learning_rate
    found: dict[Key, ParamGroup] = {
        ("", kind, common): ParamGroup(kind, {}, common, decay, is_embedding=kind == "embeddings")
        for kind, decay in (
            ("decayed", section.weight_decay),
            ("embeddings", section.weight_decay),
            ("plain", 0.0),
        )
    }
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        is_table = name.startswith(tables)
        kind = "plain"
        if is_decayed(name, norms):
            kind = "embeddings" if is_table else "decayed"
        label, rate = rate_of(name, parameter, section, is_table=is_table)
        key = (label, kind, rate)
        if key not in found:
            full = f"{label} {kind}".strip()
            found[key] = replace(found["", kind, common], name=full, parameters={}, rate=rate)
        found[key].parameters[name] = parameter
    _require_members(section, found)
    return [group for group in found.values() if group.parameters]


def rate_of(
    name: str, parameter: nn.Parameter, section: OptimSection, *, is_table: bool
) -> tuple[str, float]:
    """The label of a parameter's own rate, "" for the common one, and the peak rate itself.

    A group of `lr_groups` comes first, then what is said of embeddings, then LoRA+ (Hayou et al.
    2024, arXiv:2402.12354), with vectors beside the second factors as in peft.
    """
    for group in section.rate_groups:
        if any(text in name for text in group.modules):
            return group.name, group.lr
    is_table = is_table or any(part in name.split(".") for part in EMBEDDINGS)
    if is_table and section.embedding_scale is not None:
        return "scaled", section.learning_rate * section.embedding_scale
    if is_table and section.embedding_rate is not None:
        return "own", section.embedding_rate
    if section.loraplus_ratio is None:
        return "", section.learning_rate
    if "lora_embedding_" in name:
        return "adapted", section.loraplus_embedding_rate
    if "lora_B" in name or parameter.ndim == 1:
        return "second", section.learning_rate * section.loraplus_ratio
    return "", section.learning_rate


def _require_members(section: OptimSection, found: Mapping[Key, ParamGroup]) -> None:
    if not any(group.parameters for group in found.values()):
        raise ModelError(
            "no parameter of the model trains",
            hint="set `adapter`, or unfreeze some parameters",
        )
    for group in section.rate_groups:
        if not any((label, rate) == (group.name, group.lr) for label, _, rate in found):
            raise ModelError(
                f"no trained parameter is in the group `{group.name}` of `lr_groups`",
                hint=f"{', '.join(group.modules)}: none stands in the name of a parameter that "
                "trains and is in no group before it",
                where="lr_groups",
            )


def prefixes_of(module: nn.Module, kind: type[nn.Module]) -> tuple[str, ...]:
    """The prefixes of every parameter that lies inside a ``kind`` below ``module``."""
    return tuple(
        f"{name}." for name, child in module.named_modules() if name and isinstance(child, kind)
    )


def is_decayed(name: str, norms: tuple[str, ...]) -> bool:
    """Whether weight decay applies to the parameter ``name``."""
    return not name.startswith(norms) and UNDECAYED_NAMES.search(name.lower()) is None
