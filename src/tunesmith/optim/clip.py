"""The global norm of the gradient, and clipping by it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from tunesmith.dist.mesh import Mesh


@dataclass(frozen=True, slots=True)
class GradNorm:
    """``value``: the norm before clipping, float32 scalar. ``is_bad``: bool scalar, not finite.

    ``scale``: what the optimizer has still to multiply gradients by; None where that is done. All
    stay on the device; reading them waits for it.
    """

    value: Tensor
    is_bad: Tensor
    scale: Tensor | None = None


@torch.no_grad()
def clip(
    parameters: Iterable[Tensor], mesh: Mesh, max_norm: float, *, folded: bool = False
) -> GradNorm:
    """The norm of all gradients together, which are scaled down to ``max_norm`` (0: left alone).

    The norm is taken in float32, whatever the gradients are kept in, and over all shards. The scale
    is ``max_norm / (norm + 1e-6)`` and at most 1, as in ``torch.nn.utils.clip_grad_norm_``.
    ``folded`` leaves the gradients as they are, for an optimizer that scales while it reads them.
    """
    owners = [parameter for parameter in parameters if parameter.grad is not None]
    grads = [parameter.grad for parameter in owners if parameter.grad is not None]
    norm = _total_norm(grads, mesh.device)
    if max_norm > 0 and folded:
        return GradNorm(norm, ~torch.isfinite(norm), (max_norm / (norm + 1e-6)).clamp(max=1.0))
    if max_norm > 0 and owners:
        torch.nn.utils.clip_grads_with_norm_(owners, max_norm, norm)
    return GradNorm(norm, ~torch.isfinite(norm))


def _total_norm(grads: list[Tensor], device: torch.device) -> Tensor:
    if not grads:
        return torch.zeros((), device=device)
    norms = torch._foreach_norm(grads, 2.0, dtype=torch.float32)
    # A sharded gradient's norm is a DTensor whose parts are still to be summed over the shards.
    whole = [norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]
    total: Tensor = torch.linalg.vector_norm(torch.stack(whole))
    return total
