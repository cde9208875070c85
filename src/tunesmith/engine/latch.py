"""The latch: a step whose numbers are not finite is never applied, and none after it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from tunesmith.dist.collectives import sum_over
from tunesmith.dist.mesh import Mesh


class Latch:
    """Whether a step must be left out: a bool scalar on the device, equal on all ranks.

    The host may run a step ahead of the device. While it ``holds``, a bad step keeps the ones
    queued behind it from being applied too, so that the weights are still those that the bad step
    saw when the host hears of it. Without holding (a loss scale, or batches that are skipped) each
    step is judged alone.
    """

    def __init__(self, mesh: Mesh, *, holds: bool = True) -> None:
        self._mesh = mesh
        self._holds = holds
        self._was_bad = torch.zeros((), dtype=torch.bool, device=mesh.device)

    def __call__(self, norm_is_bad: Tensor, losses: Iterable[Tensor]) -> Tensor:
        """Whether the step of this gradient and these losses (its rank's sums) is left out."""
        bad = norm_is_bad.reshape(()) | self._was_bad
        for loss in losses:
            bad = bad | ~torch.isfinite(loss).reshape(())
        # A rank that alone saw a bad loss must not be alone in leaving the step out.
        bad = sum_over(self._mesh, bad.to(torch.float32)) > 0
        if self._holds:
            self._was_bad = bad
        return bad

    def reset(self) -> None:
        """Let steps be applied again, once the run has gone back."""
        self._was_bad = torch.zeros_like(self._was_bad)
