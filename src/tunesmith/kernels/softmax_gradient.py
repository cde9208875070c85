"""Log-probabilities and the gradient of their weighted sum, from logits, in one Triton kernel.

Dimensions: C positions, V vocabulary.

A row is read twice, for its sum and for its gradient, and nothing else of its size is ever stored.
The torch reference is ``kernels.logprobs``.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096


def logps_and_gradient(
    logits_CV: Tensor,
    targets_C: Tensor,
    coefficients_C: Tensor,
    *,
    scale: float,
    cap: float | None,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Return log p(target), float32 [C], and d(sum(coefficients * logps)) / d(logits), [C, V].

    ``logits_CV`` are as the head gives them, contiguous; ``scale`` and ``cap`` finish them
    (``kernels.logprobs.Finish``). ``dtype`` is the gradient's.
    """
    n_rows, n_words = logits_CV.shape
    logps_C = torch.empty(n_rows, dtype=torch.float32, device=logits_CV.device)
    gradient_CV = torch.empty_like(logits_CV, dtype=dtype)
    if n_rows:
        _rows[(n_rows,)](
            logits_CV,
            targets_C,
            coefficients_C,
            logps_C,
            gradient_CV,
            scale,
            1.0 if cap is None else cap,
            n_words=n_words,
            capped=cap is not None,
            block=BLOCK,
            num_warps=8,
        )
    return logps_C, gradient_CV


@triton.jit  # type: ignore[untyped-decorator]
def _rows(  # noqa: PLR0913 - a kernel takes what it reads
    logits_ptr: tl.tensor,
    targets_ptr: tl.tensor,
    coefficients_ptr: tl.tensor,
    logps_ptr: tl.tensor,
    gradient_ptr: tl.tensor,
    scale: tl.tensor,
    cap: tl.tensor,
    n_words: tl.constexpr,
    capped: tl.constexpr,
    block: tl.constexpr,
) -> None:
    row = tl.program_id(0)
    begin = row.to(tl.int64) * n_words
    target = tl.load(targets_ptr + row)
    coefficient = tl.load(coefficients_ptr + row).to(tl.float32)
    # Each lane keeps its own largest and its own sum; they are put together once.
    largest = tl.full((block,), float("-inf"), tl.float32)
    total = tl.zeros((block,), tl.float32)
    for first in range(0, n_words, block):
        word = first + tl.arange(0, block)
        raw = tl.load(logits_ptr + begin + word, word < n_words, other=float("-inf"))
        value = _finish(raw.to(tl.float32), scale, cap, capped)
        value = tl.where(word < n_words, value, float("-inf"))
        higher = tl.maximum(largest, value)
        # A lane that has seen nothing has -inf in both, whose difference is no number.
        base = tl.where(higher == float("-inf"), 0.0, higher)
        total = total * tl.exp(largest - base) + tl.exp(value - base)
        largest = higher
    top = tl.max(largest, 0)
    whole = tl.sum(total * tl.exp(largest - top), 0)
    log_whole = top + tl.log(whole)
    chosen = tl.load(logits_ptr + begin + target).to(tl.float32)
    tl.store(logps_ptr + row, _finish(chosen, scale, cap, capped) - log_whole)
    for first in range(0, n_words, block):
        word = first + tl.arange(0, block)
        raw = tl.load(logits_ptr + begin + word, word < n_words, other=float("-inf"))
        value = _finish(raw.to(tl.float32), scale, cap, capped)
        hit = tl.where(word == target, 1.0, 0.0)
        slope = coefficient * scale * (hit - tl.exp(value - log_whole))
        if capped:
            part = value / cap
            slope = slope * (1.0 - part * part)
        slope = slope.to(gradient_ptr.dtype.element_ty)
        tl.store(gradient_ptr + begin + word, slope, word < n_words)


@triton.jit  # type: ignore[untyped-decorator]
def _finish(raw: tl.tensor, scale: tl.tensor, cap: tl.tensor, capped: tl.constexpr) -> tl.tensor:
    """``raw * scale``, then ``cap * tanh(raw / cap)``."""
    value = raw * scale
    if capped:
        # tanh(x) = 2 / (1 + exp(-2x)) - 1, which runs into no overflow that is not a 0.
        value = cap * (2.0 / (1.0 + tl.exp(-2.0 * value / cap)) - 1.0)
    return value
