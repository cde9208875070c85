"""Some rows of a matrix, each at most once: what the head runs on.

Dimensions: T tokens, S rows taken, D width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def take_rows(values_TD: Tensor, rows_S: Tensor) -> Tensor:
    """Return ``values_TD[rows_S]``; ``rows_S`` int64 names no row twice.

    The gradient is written, not added up: plain indexing sorts the indices for that, in case that
    one comes twice.
    """
    taken: Tensor = _Take.apply(values_TD, rows_S)  # type: ignore[no-untyped-call]
    return taken


class _Take(Function):
    """Gather; its transpose is a scatter."""

    @staticmethod
    def forward(ctx: Any, values_TD: Tensor, rows_S: Tensor) -> Tensor:
        ctx.save_for_backward(rows_S)
        ctx.n_rows = values_TD.shape[0]
        return values_TD.index_select(0, rows_S)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_SD: Tensor) -> tuple[Tensor, None]:
        (rows_S,) = ctx.saved_tensors
        grad_TD = grad_SD.new_zeros((ctx.n_rows, *grad_SD.shape[1:]))
        return grad_TD.index_copy_(0, rows_S, grad_SD), None
