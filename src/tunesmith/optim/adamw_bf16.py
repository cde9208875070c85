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
from typing import Any, overload

import torch
from torch import Tensor

CHUNK = 1 << 20
"""Elements that the reference updates together."""

_LOW_16 = 0xFFFF

# SplitMix64's constants as signed numbers.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


class AdamWBf16(torch.optim.Optimizer):
    """AdamW whose state has its parameter's dtype, computed in float32.

    Each group needs ``names``, one for each parameter. Parameters that are not bf16 are stored
    exactly (in float32), and then this is plain AdamW. As for torch's fused optimizers, a step is
    left out where the attribute ``found_inf`` is not 0, and gradients are divided by
    ``grad_scale``: float32 scalars on the device. On a GPU a step is one kernel a parameter, and
    one that is left out counts as a step, since only the device knows of it.
    """

    found_inf: Tensor | None
    grad_scale: Tensor | None

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
        self.found_inf = self.grad_scale = None

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
        scalars = self._device_scalars()
        if scalars is not None and not scalars[1].is_cuda and bool(scalars[1]):
            return loss
        for group in self.param_groups:
            for name, parameter in zip(group["names"], group["params"], strict=True):
                if parameter.grad is not None:
                    self._update(group, name, parameter, scalars)
        return loss

    def on_device(self, parameter: Tensor) -> bool:
        """Whether the kernel updates this parameter, and not the reference."""
        return parameter.is_cuda

    def _device_scalars(self) -> tuple[Tensor, Tensor] | None:
        """What gradients are multiplied by and whether the step is left out; None for neither."""
        given = [scalar for scalar in (self.found_inf, self.grad_scale) if scalar is not None]
        if not given:
            return None
        one = torch.ones_like(given[0], dtype=torch.float32)
        scale = one if self.grad_scale is None else self.grad_scale.float().reciprocal()
        return scale, one - one if self.found_inf is None else self.found_inf.float()

    def _update(
        self,
        group: dict[str, Any],
        name: str,
        parameter: Tensor,
        scalars: tuple[Tensor, Tensor] | None,
    ) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
            state["exp_avg_sq"] = torch.zeros_like(state["exp_avg"])
        state["step"] += 1
        step = int(state["step"].item())  # kept on the host: nothing waits for the device
        assert parameter.grad is not None, "looked at by the caller"
        given = (parameter, parameter.grad, state["exp_avg"], state["exp_avg_sq"])
        # A copy where a parameter is laid out in another way; its elements count as rows follow.
        tensors = [tensor.contiguous() for tensor in given]
        key = (self.seed, step, name)
        if self.on_device(parameter):
            _update_on_device(tensors, group, (step, start_of(key)), scalars)
        else:
            scale = None if scalars is None else scalars[0]
            _update_in_chunks([tensor.view(-1) for tensor in tensors], group, key, scale)
        if not parameter.is_contiguous():
            parameter.copy_(tensors[0])


def _update_on_device(
    tensors: Sequence[Tensor],
    group: dict[str, Any],
    at: tuple[int, int],
    scalars: tuple[Tensor, Tensor] | None,
) -> None:
    """The kernel; ``at`` is the step and the start of its random numbers."""
    # Triton comes with torch where there is a GPU, and only there.
    from tunesmith.kernels.adamw import Factors, update

    step, start = at
    beta1, beta2 = group["betas"]
    weight, grad, mean, square = tensors
    factors = Factors(
        beta2=beta2,
        new1=1 - beta1,
        new2=1 - beta2,
        eps=group["eps"],
        keep=1 - group["lr"] * group["weight_decay"],
        rate=group["lr"] / (1 - beta1**step),
        root=1 / math.sqrt(1 - beta2**step),
    )
    if scalars is None:
        one = torch.ones((), device=weight.device)
        scalars = (one, one - one)
    update((weight, grad, mean, square), factors, start, scalars)


def _update_in_chunks(
    flat: Sequence[Tensor], group: dict[str, Any], key: tuple[int, int, str], scale: Tensor | None
) -> None:
    """The reference."""
    for first in range(0, flat[0].numel(), CHUNK):
        chunk = [tensor[first : first + CHUNK] for tensor in flat]
        weight, mean, square = adamw_update(chunk, group, key[1], scale)
        words = random_words(len(weight), weight.device, key, first)
        store(chunk[0], weight, words)
        store(chunk[2], mean, words >> 16)
        store(chunk[3], square, words >> 32)


def adamw_update(
    chunk: Sequence[Tensor], group: dict[str, Any], step: int, scale: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """New weight and moments in float32; ``chunk`` is (weight, gradient, moment, second moment).

    ``scale`` multiplies the gradient first.
    """
    weight, grad, mean, square = (tensor.float() for tensor in chunk)
    if scale is not None:
        grad = grad * scale
    beta1, beta2 = group["betas"]
    mean = mean.lerp(grad, 1 - beta1)
    square = square * beta2 + grad.square() * (1 - beta2)
    root = square.sqrt() / math.sqrt(1 - beta2**step) + group["eps"]
    weight = weight * (1 - group["lr"] * group["weight_decay"])
    return weight - (group["lr"] / (1 - beta1**step)) * mean / root, mean, square


def store(kept: Tensor, exact: Tensor, words: Tensor) -> None:
    """Write ``exact`` into ``kept``, rounding stochastically where it is bf16."""
    if kept.dtype == torch.bfloat16:
        kept.copy_(round_stochastically(exact, words))
    else:
        kept.copy_(exact)


def round_stochastically(values: Tensor, words: Tensor) -> Tensor:
    """Float32 ``values`` as bf16: one of the two neighbours, the nearer one more often.

    Of ``words`` the low 16 bits are used: added to the 16 bits that bf16 lacks, they carry into the
    last bit that stays with just the probability wanted. What is not finite stays what it is.
    """
    bits = (words & _LOW_16).to(torch.int32)
    carried = (values.contiguous().view(torch.int32) + bits) & ~_LOW_16
    rounded = carried.view(torch.float32).to(torch.bfloat16)
    return torch.where(torch.isfinite(values), rounded, values.to(torch.bfloat16))


def start_of(key: tuple[int | str, ...]) -> int:
    """Where the random numbers of a key start: 64 bits as a signed number."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def random_words(
    n: int, device: torch.device, key: tuple[int | str, ...], first: int = 0
) -> Tensor:
    """Int64 [n]: well mixed bits, a function of the key and the element's number alone.

    The numbers ``first + 1`` to ``first + n`` of SplitMix64 (Steele et al. 2014,
    doi:10.1145/2660193.2660195) from a start that the key gives. Products wrap around.
    """
    words = torch.arange(first + 1, first + n + 1, dtype=torch.int64, device=device)
    words.mul_(_GOLDEN).add_(start_of(key))
    for shift, factor in ((30, _MIX_1), (27, _MIX_2), (31, 1)):
        # A shift of int64 copies the sign: the mask makes it logical.
        words.bitwise_xor_((words >> shift).bitwise_and_((1 << (64 - shift)) - 1)).mul_(factor)
    return words
