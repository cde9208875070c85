"""Adapted linear layers train through one operator; everything else about them stays peft's.

The operator computes what peft's own forward computes (``kernels.lora``), with fewer passes over
memory. Layers of another kind, and every layer outside of training, run as peft has them.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from tunesmith.kernels.lora import lora_linear
from tunesmith.models.adapters import ADAPTER


class FusedLoraLinear(LoraLinear):  # type: ignore[misc]  # peft is untyped
    """peft's layer with another way through it; never built, an existing layer becomes one.

    A class and not a wrapped method, so that a compiler sees the same code in every layer.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's output."""
        weight: Tensor = self.base_layer.weight
        as_it_is = self.disable_adapters or self.merged or not self.training or args or kwargs
        if as_it_is or _compute_dtype(x) != weight.dtype:
            plain: Tensor = super().forward(x, *args, **kwargs)
            return plain
        flat_NI = x.reshape(-1, x.shape[-1]).to(weight.dtype)
        dropout = self.lora_dropout[ADAPTER]
        drops = isinstance(dropout, nn.Dropout) and dropout.p > 0
        a_RI = self.lora_A[ADAPTER].weight.to(weight.dtype)
        b_OR = self.lora_B[ADAPTER].weight.to(weight.dtype)
        out_NO = lora_linear(
            flat_NI,
            weight,
            self.base_layer.bias,
            (a_RI, b_OR, self.scaling[ADAPTER]),
            dropout(flat_NI) if drops else None,
        )
        return out_NO.view(*x.shape[:-1], -1)


def fuse_adapters(model: nn.Module) -> int:
    """Let every plain adapted layer of the model train through the operator; how many there are.

    ``release_adapters`` undoes it.
    """
    layers = [layer for layer in model.modules() if _is_plain(layer)]
    for layer in layers:
        layer.__class__ = FusedLoraLinear
    return len(layers)


def release_adapters(model: nn.Module) -> None:
    """Undo ``fuse_adapters``."""
    for layer in model.modules():
        if type(layer) is FusedLoraLinear:
            layer.__class__ = LoraLinear


def _is_plain(layer: Any) -> bool:
    """A frozen ``nn.Linear`` with one adapter of two matrices, without a variant."""
    if type(layer) is not LoraLinear or list(layer.lora_A) != [ADAPTER]:
        return False
    base = layer.get_base_layer()
    return (
        type(base) is nn.Linear
        and not any(parameter.requires_grad for parameter in base.parameters())
        and layer.lora_A[ADAPTER].bias is None
        and layer.lora_B[ADAPTER].bias is None
        and not layer.fan_in_fan_out
        and not layer.lora_variant
    )


def _compute_dtype(x: Tensor) -> torch.dtype:
    """What products of x are made in: autocast's dtype, or its own."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
