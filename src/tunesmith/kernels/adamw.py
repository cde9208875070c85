"""AdamW for one parameter as one Triton kernel: clip, update, stochastic rounding in one pass.

Every element is read and written once. The torch reference is ``optim.adamw_bf16``: the same
formulas in the same order, and the same random bits, element by element.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Factors:
    """The numbers of one step for one group, worked out on the host in double precision.

    ``new1`` and ``new2`` are what the betas leave for the gradient: taken from 1 in float32 they
    would be off by 5e-5. ``keep`` is what weight decay leaves of a weight, ``rate`` the rate over
    the first moment's correction, ``root`` one over the root of the second moment's.
    """

    beta2: float
    new1: float
    new2: float
    eps: float
    keep: float
    rate: float
    root: float


def update(
    tensors: tuple[Tensor, Tensor, Tensor, Tensor],
    factors: Factors,
    start: int,
    device_scalars: tuple[Tensor, Tensor],
) -> None:
    """Step (weight, gradient, moment, second moment) in place; all contiguous, of any float dtype.

    ``start`` is the state of SplitMix64 before the first element. ``device_scalars`` are float32
    scalars that nobody waits for: what the gradient is multiplied by, and whether the step is to be
    left out (not 0).
    """
    weight, grad, mean, square = tensors
    n = weight.numel()
    if n == 0:
        return
    scale, skip = device_scalars
    _step[(triton.cdiv(n, BLOCK),)](
        weight,
        grad,
        mean,
        square,
        scale,
        skip,
        n,
        start,
        factors.beta2,
        factors.new1,
        factors.new2,
        factors.eps,
        factors.keep,
        factors.rate,
        factors.root,
        rounds_weight=weight.dtype == torch.bfloat16,
        rounds_state=mean.dtype == torch.bfloat16,
        block=BLOCK,
    )


@triton.jit(do_not_specialize=["start", "n"])  # type: ignore[untyped-decorator]
def _step(  # noqa: PLR0913 - a kernel takes what it reads
    weight_ptr: tl.tensor,
    grad_ptr: tl.tensor,
    mean_ptr: tl.tensor,
    square_ptr: tl.tensor,
    scale_ptr: tl.tensor,
    skip_ptr: tl.tensor,
    n: tl.tensor,
    start: tl.tensor,
    beta2: tl.tensor,
    new1: tl.tensor,
    new2: tl.tensor,
    eps: tl.tensor,
    keep: tl.tensor,
    rate: tl.tensor,
    root: tl.tensor,
    rounds_weight: tl.constexpr,
    rounds_state: tl.constexpr,
    block: tl.constexpr,
) -> None:
    if tl.load(skip_ptr) == 0.0:
        at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
        inside = at < n
        weight = tl.load(weight_ptr + at, inside).to(tl.float32)
        grad = tl.load(grad_ptr + at, inside).to(tl.float32) * tl.load(scale_ptr)
        mean = tl.load(mean_ptr + at, inside).to(tl.float32)
        square = tl.load(square_ptr + at, inside).to(tl.float32)
        mean = mean + new1 * (grad - mean)
        square = square * beta2 + grad * grad * new2
        weight = weight * keep - rate * mean / (tl.sqrt_rn(square) * root + eps)
        if rounds_weight or rounds_state:
            words = _words(at, start)
            if rounds_weight:
                weight = _round(weight, words)
            if rounds_state:
                mean = _round(mean, words >> 16)
                square = _round(square, words >> 32)
        tl.store(weight_ptr + at, weight.to(weight_ptr.dtype.element_ty), inside)
        tl.store(mean_ptr + at, mean.to(mean_ptr.dtype.element_ty), inside)
        tl.store(square_ptr + at, square.to(square_ptr.dtype.element_ty), inside)


@triton.jit  # type: ignore[untyped-decorator]
def _words(at: tl.tensor, start: tl.tensor) -> tl.tensor:
    """SplitMix64's number ``at + 1`` behind ``start``, unsigned."""
    word = (at + 1).to(tl.uint64) * 0x9E3779B97F4A7C15 + start.to(tl.uint64)
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB
    return word ^ (word >> 31)


@triton.jit  # type: ignore[untyped-decorator]
def _round(values: tl.tensor, words: tl.tensor) -> tl.tensor:
    """One of the two bf16 neighbours as float32; what is not finite stays as it is."""
    bits = values.to(tl.uint32, bitcast=True)
    carried = (bits + (words & 0xFFFF).to(tl.uint32)) & 0xFFFF0000
    finite = (bits & 0x7F800000) != 0x7F800000
    return tl.where(finite, carried.to(tl.float32, bitcast=True), values)
