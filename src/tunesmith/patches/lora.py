"""Adapted linear layers train through one operator; everything else about them stays peft's.

The operator computes what peft's own forward computes (``kernels.lora``), with fewer passes over
memory. Layers of another kind, and every layer outside of training, run as peft has them.

Layers that are called one after the other with the same input form a group: the first computes the
outputs of all, the others hand theirs out. Whether it is the same input is looked at, not assumed:
a layer that is called with another one computes its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from tunesmith.kernels.lora import Adapted, lora_linears

SHARED_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names of sisters that models call with one input, in the order of the calls."""


class FusedLoraLinear(LoraLinear):  # type: ignore[misc]  # peft is untyped
    """peft's layer with another way through it; never built, an existing layer becomes one.

    A class and not a wrapped method, so that a compiler sees the same code in every layer.
    """

    adapter: str
    """peft's name of the layer's one adapter."""

    group: tuple[FusedLoraLinear, ...]
    """The layers that this one computes together with itself, itself first; empty: itself alone."""

    waiting: tuple[Tensor, Tensor] | None
    """An input that was seen by the group's first layer, and this layer's output for it."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's output."""
        weight: Tensor = self.base_layer.weight
        as_it_is = self.disable_adapters or self.merged or not self.training or args or kwargs
        if as_it_is or _compute_dtype(x) != weight.dtype:
            plain: Tensor = super().forward(x, *args, **kwargs)
            return plain
        waiting, self.waiting = self.waiting, None
        if waiting is not None and waiting[0] is x:
            return waiting[1]
        layers = self.group or (self,)
        own, *others = self._outputs(x, layers)
        for layer, output in zip(layers[1:], others, strict=True):
            layer.waiting = (x, output)
        return own

    def _outputs(self, x: Tensor, layers: Sequence[FusedLoraLinear]) -> list[Tensor]:
        dtype = self.base_layer.weight.dtype
        flat_NI = x.reshape(-1, x.shape[-1]).to(dtype)
        dropped_NI = self.lora_dropout[self.adapter](flat_NI) if _drops(self) else None
        adapted = [
            Adapted(
                layer.base_layer.weight,
                layer.base_layer.bias,
                layer.lora_A[layer.adapter].weight.to(dtype),
                layer.lora_B[layer.adapter].weight.to(dtype),
            )
            for layer in layers
        ]
        outputs = lora_linears(flat_NI, adapted, self.scaling[self.adapter], dropped_NI)
        return [output.view(*x.shape[:-1], -1) for output in outputs]


def fuse_adapters(model: nn.Module, adapter: str) -> int:
    """Let every plain adapted layer of the model train through the operator; how many there are.

    ``adapter`` is peft's name of the one adapter that a plain layer has.

    ``release_adapters`` undoes it.
    """
    layers: list[Any] = [layer for layer in model.modules() if _is_plain(layer, adapter)]
    for layer in layers:
        layer.__class__ = FusedLoraLinear
        # Its own from the start: a compiler takes an attribute that turns up later for news.
        layer.adapter, layer.group, layer.waiting = adapter, (), None
    for parent in model.modules():
        for names in SHARED_INPUT:
            _group([getattr(parent, name, None) for name in names])
    return len(layers)


def release_adapters(model: nn.Module) -> None:
    """Undo ``fuse_adapters``."""
    layers: list[Any] = list(model.modules())
    for layer in layers:
        if type(layer) is FusedLoraLinear:
            for name in ("adapter", "group", "waiting"):
                layer.__dict__.pop(name, None)
            layer.__class__ = LoraLinear


def _group(layers: Sequence[Any]) -> None:
    """Let the first layer compute all of them, where the operator can."""
    if not all(type(layer) is FusedLoraLinear for layer in layers):
        return
    like = {
        (
            layer.r[layer.adapter],
            layer.scaling[layer.adapter],
            layer.base_layer.weight.dtype,
            layer.base_layer.bias is None,
        )
        for layer in layers
    }
    # Where something is dropped each layer draws for itself.
    if len(like) == 1 and not any(_drops(layer) for layer in layers):
        layers[0].group = tuple(layers)


def _drops(layer: Any) -> bool:
    dropout = layer.lora_dropout[layer.adapter]
    return isinstance(dropout, nn.Dropout) and dropout.p > 0


def _is_plain(layer: Any, adapter: str) -> bool:
    """A frozen ``nn.Linear`` with one adapter of two matrices, without a variant."""
    if type(layer) is not LoraLinear or list(layer.lora_A) != [adapter]:
        return False
    base = layer.get_base_layer()
    return (
        type(base) is nn.Linear
        and not any(parameter.requires_grad for parameter in base.parameters())
        and layer.lora_A[adapter].bias is None
        and layer.lora_B[adapter].bias is None
        and not layer.fan_in_fan_out
        and not layer.lora_variant
    )


def _compute_dtype(x: Tensor) -> torch.dtype:
    """What products of x are made in: autocast's dtype, or its own."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
