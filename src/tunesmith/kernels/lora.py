"""Frozen linear layers with low-rank adapters on one input, as one operator with its derivative.

Dimensions: N positions, I inputs, O outputs of one layer, L layers, R rank of one.

``y = x W^T + bias + s (d A^T) B^T`` for each layer, where d is x, or x after dropout. The products
of rank R are added into the large ones by the matrix multiplication itself, so that no tensor of
the outputs' size is made only to be added; layers that share their input share the product with the
A's and add up their input's gradient in place. For the backward pass x, d and ``d A^T`` are kept,
and nothing of the outputs' size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Adapted:
    """One layer: the frozen W [O, I] and bias [O], and the adapter's A [R, I] and B [O, R]."""

    weight: Tensor
    bias: Tensor | None
    a: Tensor
    b: Tensor


def lora_linears(
    x_NI: Tensor,
    layers: Sequence[Adapted],
    scaling: float,
    dropped_NI: Tensor | None = None,
) -> list[Tensor]:
    """Return [N, O] of each layer, differentiable in x, in the A's and B's and in d.

    All tensors have one dtype; the layers have one rank, and all of them a bias or none.
    ``dropped_NI`` is what dropout left of x; None means that nothing is dropped.
    """
    a_LRI = layers[0].a if len(layers) == 1 else torch.cat([layer.a for layer in layers])
    results: list[Tensor] = _forward(
        x_NI,
        dropped_NI,
        [layer.weight for layer in layers],
        [layer.bias for layer in layers if layer.bias is not None],
        a_LRI,
        [layer.b for layer in layers],
        scaling,
    )
    return results[:-1]


@torch.library.custom_op("tunesmith::lora_linears", mutates_args=())
def _forward(
    x: Tensor,
    dropped: Tensor | None,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    a: Tensor,
    bs: Sequence[Tensor],
    scaling: float,
) -> list[Tensor]:
    """The outputs, and at last ``s d A^T`` [N, L R] for the backward pass."""
    low = torch.mm(x if dropped is None else dropped, a.t()).mul_(scaling)
    parts = torch.split(low, bs[0].shape[1], dim=1)
    added: Sequence[Tensor | None] = biases or [None] * len(bs)
    outputs = [
        F.linear(x, weight, bias).addmm_(part, b.t())
        for weight, bias, b, part in zip(weights, added, bs, parts, strict=True)
    ]
    return [*outputs, low]


@_forward.register_fake
def _forward_fake(
    x: Tensor,
    dropped: Tensor | None,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    a: Tensor,
    bs: Sequence[Tensor],
    scaling: float,
) -> list[Tensor]:
    return [x.new_empty((x.shape[0], matrix.shape[0])) for matrix in (*weights, a)]


@torch.library.custom_op("tunesmith::lora_linears_backward", mutates_args=())
def _backward(  # noqa: PLR0913 - the operator's inputs and what its forward kept
    grads: Sequence[Tensor],
    x: Tensor,
    dropped: Tensor | None,
    low: Tensor,
    weights: Sequence[Tensor],
    a: Tensor,
    bs: Sequence[Tensor],
    scaling: float,
) -> list[Tensor]:
    """Gradients of x, of d (empty where d is x), of the stacked A's and of each B."""
    rank = bs[0].shape[1]
    grad_low = torch.cat([torch.mm(g, b) for g, b in zip(grads, bs, strict=True)], dim=1)
    grad_low.mul_(scaling)
    grad_a = torch.mm(grad_low.t(), x if dropped is None else dropped)
    parts = torch.split(low, rank, dim=1)
    grad_bs = [torch.mm(g.t(), part) for g, part in zip(grads, parts, strict=True)]
    grad_x = torch.mm(grads[0], weights[0])
    for grad, weight in zip(grads[1:], weights[1:], strict=True):
        grad_x.addmm_(grad, weight)
    if dropped is None:
        return [grad_x.addmm_(grad_low, a), x.new_empty(0), grad_a, *grad_bs]
    return [grad_x, torch.mm(grad_low, a), grad_a, *grad_bs]


@_backward.register_fake
def _backward_fake(  # noqa: PLR0913 - the operator's inputs and what its forward kept
    grads: Sequence[Tensor],
    x: Tensor,
    dropped: Tensor | None,
    low: Tensor,
    weights: Sequence[Tensor],
    a: Tensor,
    bs: Sequence[Tensor],
    scaling: float,
) -> list[Tensor]:
    grad_dropped = x.new_empty(0 if dropped is None else x.shape)
    return [x.new_empty(x.shape), grad_dropped, *(t.new_empty(t.shape) for t in (a, *bs))]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, dropped, weights, biases, a, bs, ctx.scaling = inputs
    ctx.n_layers, ctx.n_biases = len(weights), len(biases)
    ctx.save_for_backward(x, dropped, output[-1], a, *weights, *bs)


def _differentiate(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
    x, dropped, low, a, *rest = ctx.saved_tensors
    weights, bs = rest[: ctx.n_layers], rest[ctx.n_layers :]
    # Nobody differentiates through the last one; an output that nobody used has no gradient.
    given = [
        x.new_zeros((x.shape[0], weight.shape[0])) if grad is None else grad.contiguous()
        for grad, weight in zip(grads, weights, strict=False)
    ]
    grad_x, grad_dropped, grad_a, *grad_bs = _backward(
        given, x, dropped, low, weights, a, bs, ctx.scaling
    )
    of_dropped = None if dropped is None else grad_dropped
    frozen = [None] * ctx.n_layers
    return grad_x, of_dropped, frozen, [None] * ctx.n_biases, grad_a, grad_bs, None


_forward.register_autograd(_differentiate, setup_context=_setup)
