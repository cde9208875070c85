"""Packed causal attention as one opaque operator: no graph break, no wait for the device.

Dimensions: H query heads, K key and value heads, T tokens, D head size, N documents.

A compiled block sees tensors of fixed shape only. How many documents a batch has and how long its
longest one is change with every batch, and plain integers would compile the block again: so they
travel as ``extent``, int64 [2] on the CPU, which the operator reads when it runs. ``bounds`` is
int32 [at least N + 1]; what stands behind the N + 1 first numbers is filling.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tunesmith.kernels.documents import Scoring, by_document, by_document_backward

NO_WINDOW = -1

FLASH_DTYPES = (torch.bfloat16, torch.float16)
FLASH_MAX_HEAD_DIM = 256
FLASH_CAPABILITY = (8, 0)


def extent_of(n_documents: int, longest: int) -> Tensor:
    """The two numbers as the operator takes them, on the CPU."""
    return torch.tensor([n_documents, longest], dtype=torch.int64)


def attend_packed(
    q_THD: Tensor,
    k_TKD: Tensor,
    v_TKD: Tensor,
    bounds: Tensor,
    extent: Tensor,
    *,
    scaling: float,
    window: int | None,
) -> Tensor:
    """Return the attention output, [T, H, D], each document by itself; differentiable.

    ``window`` counts the keys that a query sees, itself included. What the flash kernel does not
    take (float32, an odd head size, an old GPU) is computed document by document, which reads the
    bounds on the host.
    """
    out_THD: Tensor = _forward(
        q_THD, k_TKD, v_TKD, bounds, extent, scaling, NO_WINDOW if window is None else window
    )[0]
    return out_THD


@torch.library.custom_op("tunesmith::attend_packed", mutates_args=())
def _forward(
    q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, extent: Tensor, scaling: float, window: int
) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp [H, T], which the backward kernel wants."""
    n_documents, longest = extent.tolist()
    segments = bounds[: n_documents + 1]
    if _runs_flash(q):
        q, k, v = (_dense_rows(t) for t in (q, k, v))
        left = _left(window, longest)
        out, lse, _, _, _ = torch.ops.aten._flash_attention_forward(
            q,
            k,
            v,
            segments,
            segments,
            longest,
            longest,
            0.0,
            left == -1,
            False,
            scale=scaling,
            window_size_left=left,
            window_size_right=0,
        )
        return out, lse
    out = _reference(q, k, v, segments, scaling, window)
    return out, q.new_zeros((q.shape[1], q.shape[0]), dtype=torch.float32)


@_forward.register_fake
def _forward_fake(
    q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, extent: Tensor, scaling: float, window: int
) -> tuple[Tensor, Tensor]:
    out = q.new_empty((q.shape[0], q.shape[1], v.shape[2]))
    return out, q.new_empty((q.shape[1], q.shape[0]), dtype=torch.float32)


@torch.library.custom_op("tunesmith::attend_packed_backward", mutates_args=())
def _backward(  # noqa: PLR0913 - an operator's schema
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    bounds: Tensor,
    extent: Tensor,
    scaling: float,
    window: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values."""
    n_documents, longest = extent.tolist()
    segments = bounds[: n_documents + 1]
    if not _runs_flash(q):
        scoring = _scoring(scaling, window)
        return by_document_backward(grad, (q, k, v), segments, scoring)
    q, k, v = (_dense_rows(t) for t in (q, k, v))
    left = _left(window, longest)
    gradients = torch.ops.aten._flash_attention_backward(
        grad.contiguous(),
        q,
        k,
        v,
        out,
        lse,
        segments,
        segments,
        longest,
        longest,
        0.0,
        left == -1,
        torch.empty(2, dtype=torch.uint64, device=q.device),  # a generator's state: nothing drops
        q.new_empty(0),
        scale=scaling,
        window_size_left=left,
        window_size_right=0,
    )
    dq, dk, dv = (t.contiguous() for t in gradients)
    return dq, dk, dv


@_backward.register_fake
def _backward_fake(  # noqa: PLR0913 - an operator's schema
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    bounds: Tensor,
    extent: Tensor,
    scaling: float,
    window: int,
) -> tuple[Tensor, Tensor, Tensor]:
    dq, dk, dv = (t.new_empty(t.shape) for t in (q, k, v))
    return dq, dk, dv


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, bounds, extent, ctx.scaling, ctx.window = inputs
    ctx.save_for_backward(q, k, v, *output, bounds, extent)
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx: Any, grad: Tensor, *_unused: Tensor | None) -> tuple[Tensor | None, ...]:
    gradients = _backward(grad, *ctx.saved_tensors, ctx.scaling, ctx.window)
    return (*gradients, None, None, None, None)


_forward.register_autograd(_differentiate, setup_context=_setup)


def _runs_flash(q: Tensor) -> bool:
    return (
        q.is_cuda
        and q.dtype in FLASH_DTYPES
        and q.shape[-1] % 8 == 0
        and q.shape[-1] <= FLASH_MAX_HEAD_DIM
        and torch.cuda.get_device_capability(q.device) >= FLASH_CAPABILITY
    )


def _left(window: int, longest: int) -> int:
    """Keys left of a query that the kernel lets it see, the query's own not counted; -1: all."""
    return -1 if window == NO_WINDOW or window >= longest else window - 1


def _dense_rows(tensor: Tensor) -> Tensor:
    """The kernels want the numbers of one head side by side; other strides may be any."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _scoring(scaling: float, window: int) -> Scoring:
    return Scoring(scaling, window=None if window == NO_WINDOW else window)


def _reference(
    q: Tensor, k: Tensor, v: Tensor, segments: Tensor, scaling: float, window: int
) -> Tensor:
    q, k, v = (t.transpose(0, 1)[None] for t in (q, k, v))
    out = by_document(q, k, v, segments, _scoring(scaling, window))
    return out[0].transpose(0, 1).contiguous()
