"""AdamW on bf16 weights: weights and both moments are rounded stochastically.

Rounding to the nearest bf16 number loses every change below 1/256 of a value. Then weights stop
moving at small rates, and at beta2 = 0.999 the second moment can grow but not fall. Rounded up with
a probability equal to the part that would be lost, each value is right in expectation.

The random numbers are counter-based: a function of (seed, step, parameter's name, element), so that
a resumed run draws the same ones and no generator has to be saved.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, overload

import torch
from torch import Tensor

CHUNK = 1 << 20
"""Elements that are updated together. Part of the algorithm: the random numbers depend on it."""

_LOW_16 = 0xFFFF


class AdamWBf16(torch.optim.Optimizer):
    """AdamW whose state has its parameter's dtype, computed in float32.

    Each group needs ``names``, one for each parameter. Parameters that are not bf16 are stored
    exactly (in float32), and then this is plain AdamW.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(groups, defaults)
        self.seed = seed

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for name, parameter in zip(group["names"], group["params"], strict=True):
                if parameter.grad is not None:
                    self._update(group, name, parameter)
        return loss

    def _update(self, group: dict[str, Any], name: str, parameter: Tensor) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
            state["exp_avg_sq"] = torch.zeros_like(state["exp_avg"])
        state["step"] += 1
        step = int(state["step"].item())  # kept on the host: nothing waits for the device
        tensors = (parameter, parameter.grad, state["exp_avg"], state["exp_avg_sq"])
        flat = [tensor.reshape(-1) for tensor in tensors if tensor is not None]
        for number, start in enumerate(range(0, parameter.numel(), CHUNK)):
            chunk = [tensor[start : start + CHUNK] for tensor in flat]
            weight, mean, square = adamw_update(chunk, group, step)
            key = (self.seed, step, name, number)
            for kind, (kept, exact) in enumerate(
                zip((chunk[0], chunk[2], chunk[3]), (weight, mean, square), strict=True)
            ):
                store(kept, exact, key=(*key, kind))
        if not parameter.is_contiguous():
            parameter.copy_(flat[0].view(parameter.shape))


def adamw_update(
    chunk: Sequence[Tensor], group: dict[str, Any], step: int
) -> tuple[Tensor, Tensor, Tensor]:
    """New weight and moments in float32; ``chunk`` is (weight, gradient, moment, second moment)."""
    weight, grad, mean, square = (tensor.float() for tensor in chunk)
    beta1, beta2 = group["betas"]
    mean = mean.lerp(grad, 1 - beta1)
    square = square * beta2 + grad.square() * (1 - beta2)
    root = square.sqrt() / math.sqrt(1 - beta2**step) + group["eps"]
    weight = weight * (1 - group["lr"] * group["weight_decay"])
    return weight - (group["lr"] / (1 - beta1**step)) * mean / root, mean, square


def store(kept: Tensor, exact: Tensor, *, key: tuple[int | str, ...]) -> None:
    """Write ``exact`` into ``kept``, rounding stochastically where it is bf16."""
    if kept.dtype == torch.bfloat16:
        kept.copy_(round_stochastically(exact, random_bits(exact.numel(), exact.device, key)))
    else:
        kept.copy_(exact)


def round_stochastically(values: Tensor, bits: Tensor) -> Tensor:
    """Float32 ``values`` as bf16: one of the two neighbours, the nearer one more often.

    ``bits`` is int32, of which the low 16 are used: added to the 16 bits that bf16 lacks, they
    carry into the last bit that stays with just the probability wanted. What is not finite stays.
    """
    carried = (values.contiguous().view(torch.int32) + (bits & _LOW_16)) & ~_LOW_16
    rounded = carried.view(torch.float32).to(torch.bfloat16)
    return torch.where(torch.isfinite(values), rounded, values.to(torch.bfloat16))


def random_bits(n: int, device: torch.device, key: tuple[int | str, ...]) -> Tensor:
    """Int32 [n]: well mixed bits, a function of the key and the element's number.

    Two rounds of the 32-bit finaliser "lowbias32" (C. Wellons, hash-prospector, public domain),
    keyed before each. Products wrap around.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    first, second = (int.from_bytes(digest[at : at + 4], "little", signed=True) for at in (0, 4))
    bits = _counter(device)[:n] if n <= CHUNK else torch.arange(n, device=device).int()
    for word in (first, second):
        bits = bits ^ word
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - (1 << 32)), (16, 1)):
            # Shifts of int32 copy the sign: the mask makes them logical.
            bits = (bits ^ ((bits >> shift) & ((1 << (32 - shift)) - 1))) * factor
    return bits


@cache
def _counter(device: torch.device) -> Tensor:
    return torch.arange(CHUNK, dtype=torch.int32, device=device)
