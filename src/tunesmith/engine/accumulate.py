"""Gradients of half-precision weights, summed over micro-batches in fp32 and rounded once."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

HALF = (torch.bfloat16, torch.float16)


class WideSum:
    """The sum of several backward passes for weights whose own gradients are too narrow to add up.

    A bf16 sum of four like terms loses its last bits at every addition; this one loses them once.
    Weights in fp32 are left to torch, which adds into ``.grad`` in fp32 already. It costs 4 bytes a
    half-precision weight while a step lasts, and nothing where a step is one micro-batch.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._narrow = [p for p in parameters if p.requires_grad and p.dtype in HALF]
        self._sums: dict[nn.Parameter, Tensor] = {}

    def take(self) -> None:
        """Move every ``.grad`` into the sum."""
        for parameter in self._narrow:
            if parameter.grad is None:
                continue
            if parameter in self._sums:
                self._sums[parameter].add_(parameter.grad)
            else:
                self._sums[parameter] = parameter.grad.float()
            parameter.grad = None

    def give(self) -> None:
        """Put the sum, rounded to the weight's dtype, into ``.grad``."""
        for parameter, total in self._sums.items():
            parameter.grad = total.to(parameter.dtype)
        self._sums = {}
