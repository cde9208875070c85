"""Log-probabilities of given tokens from hidden states, without ever storing all logits.

Dimensions: N positions, D hidden size, V vocabulary, C positions of one chunk.

"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

Head = Callable[[Tensor], Tensor]

CHUNK = 1024
"""Positions whose logits exist at the same time: 1024 x 128k x 4 bytes is half a GB."""

DEVICE_CHUNK = 4096
"""The same on a GPU where the gradient is made at once: fewer sums into the head's gradient."""


@dataclass(frozen=True, slots=True)
class Finish:
    """What follows the head: ``logits * scale``, then ``cap * tanh(logits / cap)``."""

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the logits in float32 (float64 stays), scaled and softly capped."""
        logits = logits.to(_wide(logits.dtype))
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.cap is not None:
            logits = self.cap * torch.tanh(logits / self.cap)
        return logits


PLAIN = Finish()


def chunked_logps(
    hidden_ND: Tensor,
    head: Head,
    targets_N: Tensor,
    *,
    finish: Finish = PLAIN,
    chunk: int = CHUNK,
) -> Tensor:
    """Return log p(target) for every position, float32 [N] (float64 for float64 logits).

    Differentiable through ``head``, whatever module it is: each chunk's logits are made again in
    the backward pass, so that only one chunk of them exists at any time. ``head`` must be
    deterministic, or read its randomness from torch's generators.
    """

    def one(hidden_CD: Tensor, targets_C: Tensor) -> Tensor:
        return _logps(finish(head(hidden_CD)), targets_C)

    if hidden_ND.shape[0] == 0:
        # A head that sees no row still takes part, so that its parameters get a gradient of 0.
        return one(hidden_ND, targets_N)
    pieces = [
        checkpoint(one, h, t, use_reentrant=False) if torch.is_grad_enabled() else one(h, t)
        for h, t in zip(torch.split(hidden_ND, chunk), torch.split(targets_N, chunk), strict=True)
    ]
    return torch.cat(pieces)


def linear_logps(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor | None,
    targets_N: Tensor,
    coefficients_N: Tensor,
    *,
    finish: Finish = PLAIN,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return ``sum(coefficients * logps)``, with a gradient, and the log-probs, without one.

    For losses that are linear in the log-probs and know the coefficients before the forward pass:
    the gradients of hidden states, weight and bias are made in the forward pass, from the logits
    that are there anyway, so that nothing is computed twice. The head multiplies in the dtype of
    ``hidden_ND``; sums and gradients of the weight are kept in float32 (float64 for float64).
    Coefficients get no gradient; a second derivative is refused by torch.
    """
    if not torch.is_grad_enabled():
        hidden_ND, weight_VD = hidden_ND.detach(), weight_VD.detach()
        bias_V = None if bias_V is None else bias_V.detach()
    chunk = chunk or (DEVICE_CHUNK if hidden_ND.is_cuda else CHUNK)
    dot, logps_N = _LinearLogps.apply(  # type: ignore[no-untyped-call]
        hidden_ND, weight_VD, bias_V, targets_N, coefficients_N, (finish, chunk)
    )
    return dot, logps_N


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _logps(logits_CV: Tensor, targets_C: Tensor) -> Tensor:
    chosen_C = logits_CV.gather(-1, targets_C[:, None]).squeeze(-1)
    return chosen_C - torch.logsumexp(logits_CV, dim=-1)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` with a float32 result: on a GPU the wide accumulator is handed out unrounded."""
    if a.is_cuda and a.dtype in (torch.bfloat16, torch.float16):
        return torch.mm(a, b, out_dtype=torch.float32)
    return (a @ b).to(_wide(a.dtype))


class _LinearLogps(torch.autograd.Function):
    """The forward pass makes the gradients; the backward pass only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        coefficients_N: Tensor,
        options: tuple[Finish, int],
    ) -> tuple[Tensor, Tensor]:
        finish, chunk = options
        with torch.autocast(hidden_ND.device.type, enabled=False):
            grads = _Gradients(hidden_ND, weight_VD, bias_V, ctx.needs_input_grad)
            weight = weight_VD.to(hidden_ND.dtype)
            dot = hidden_ND.new_zeros((), dtype=_wide(hidden_ND.dtype))
            logps_N = hidden_ND.new_empty(hidden_ND.shape[0], dtype=dot.dtype)
            for start in range(0, hidden_ND.shape[0], chunk):
                rows = slice(start, start + chunk)
                raw_CV = _product(hidden_ND[rows], weight.T)
                if bias_V is not None:
                    raw_CV += bias_V
                logps_C, dlogits_CV = _chunk(
                    raw_CV,
                    targets_N[rows],
                    coefficients_N[rows].to(dot.dtype),
                    finish,
                    None if bias_V is not None else hidden_ND.dtype,
                )
                logps_N[rows] = logps_C
                dot += (coefficients_N[rows].to(dot.dtype) * logps_C).sum()
                grads.add(rows, dlogits_CV, weight)
        ctx.save_for_backward(grads.hidden, grads.of_weight(), grads.bias)
        ctx.dtypes = (weight_VD.dtype, bias_V.dtype if bias_V is not None else None)
        ctx.mark_non_differentiable(logps_N)
        return dot, logps_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_dot: Tensor, _grad_logps: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = ctx.saved_tensors
        weight_dtype, bias_dtype = ctx.dtypes
        return (
            # A factor that is rounded to bf16 would be wrong for all of them in the same way.
            None if hidden is None else _times(hidden.to(grad_dot.dtype), grad_dot, hidden.dtype),
            None if weight is None else _times(weight, grad_dot, weight_dtype),
            None if bias is None else _times(bias, grad_dot, bias_dtype),
            *(None,) * 3,
        )


def _times(wide: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    """``wide * factor``, rounded once, in one pass."""
    return torch.mul(wide, factor, out=torch.empty_like(wide, dtype=dtype))


class _Gradients:
    """What the forward pass gathers for the inputs that need a gradient."""

    def __init__(
        self,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        needed: tuple[bool, ...],
    ) -> None:
        wide = _wide(hidden_ND.dtype)
        self._source = hidden_ND
        self.hidden = torch.empty_like(hidden_ND) if needed[0] else None
        self.weight: Tensor | None = None
        self._like = weight_VD if needed[1] else None
        self.bias = (
            torch.zeros_like(bias_V, dtype=wide) if bias_V is not None and needed[2] else None
        )

    def of_weight(self) -> Tensor | None:
        """The weight's gradient: of 0 where there was no row, None where none is wanted."""
        if self.weight is None and self._like is not None:
            return torch.zeros_like(self._like, dtype=_wide(self._source.dtype))
        return self.weight

    def add(self, rows: slice, dlogits_CV: Tensor, weight_VD: Tensor) -> None:
        """Add one chunk's share; what is multiplied is as narrow as the hidden states."""
        narrow_CV = dlogits_CV.to(self._source.dtype)
        if self.hidden is not None:
            self.hidden[rows] = narrow_CV @ weight_VD
        if self._like is not None:
            part_VD = _product(narrow_CV.T, self._source[rows])
            self.weight = part_VD if self.weight is None else self.weight.add_(part_VD)
        if self.bias is not None:
            self.bias += dlogits_CV.sum(0)


def _chunk(
    raw_CV: Tensor,
    targets_C: Tensor,
    coefficients_C: Tensor,
    finish: Finish,
    narrow: torch.dtype | None,
) -> tuple[Tensor, Tensor]:
    """Log-probs and gradient of one chunk: on a GPU by the kernel, the gradient in ``narrow``.

    ``narrow`` is None where the gradient itself is summed and has to be wide.
    """
    if not raw_CV.is_cuda or narrow is None or raw_CV.dtype == torch.float64:
        return _one_chunk(raw_CV, targets_C, coefficients_C, finish)
    # Triton comes with torch where there is a GPU, and only there.
    from tunesmith.kernels.softmax_gradient import logps_and_gradient

    return logps_and_gradient(
        raw_CV, targets_C, coefficients_C, scale=finish.scale, cap=finish.cap, dtype=narrow
    )


def _one_chunk(
    raw_CV: Tensor, targets_C: Tensor, coefficients_C: Tensor, finish: Finish
) -> tuple[Tensor, Tensor]:
    """Return the log-probs and d(sum(coefficients * logps)) / d(raw logits); uses up ``raw_CV``."""
    if finish.scale != 1.0:
        raw_CV *= finish.scale
    slope_CV = None
    if finish.cap is not None:
        raw_CV.div_(finish.cap).tanh_()
        slope_CV = 1.0 - raw_CV.square()
        raw_CV *= finish.cap
    logps_CV = F.log_softmax(raw_CV, dim=-1)
    logps_C = logps_CV.gather(-1, targets_C[:, None]).squeeze(-1)
    dlogits_CV = logps_CV.exp_().mul_(-coefficients_C[:, None])
    dlogits_CV.scatter_add_(-1, targets_C[:, None], coefficients_C[:, None])
    if slope_CV is not None:
        dlogits_CV *= slope_CV
    if finish.scale != 1.0:
        dlogits_CV *= finish.scale
    return logps_C, dlogits_CV
