"""Loss scales: float16 gradients are made larger before they are rounded, and smaller after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

FIRST = 65536.0
GROWTH = 2.0
BACKOFF = 0.5
INTERVAL = 2000


class Scale(Protocol):
    """What a backward multiplies its loss by, and how that follows the gradients."""

    def grow(self, loss: Tensor) -> Tensor:
        """The loss to call ``backward`` on."""
        ...

    def shrink(self, parameters: Iterable[Tensor]) -> None:
        """Undo ``grow`` in the gradients, in place."""
        ...

    def update(self, is_bad: Tensor) -> None:
        """Take note of whether the step's gradients were not finite, without reading it."""
        ...

    def to_json(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        ...

    def load(self, saved: dict[str, Any]) -> None:
        """Go on from what ``to_json`` gave."""
        ...


@dataclass(frozen=True, slots=True)
class Unscaled:
    """For float32 and bfloat16, whose exponents need no help."""

    def grow(self, loss: Tensor) -> Tensor:
        """The loss itself."""
        return loss

    def shrink(self, parameters: Iterable[Tensor]) -> None:
        """Nothing to undo."""

    def update(self, is_bad: Tensor) -> None:
        """Nothing to follow."""

    def to_json(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def load(self, saved: dict[str, Any]) -> None:
        """Nothing to go on from."""


class LossScale:
    """A factor that halves after a bad step and doubles after ``interval`` good ones in a row.

    The arithmetic of ``torch.amp.GradScaler``, kept as tensors on the device, so that the host
    does not wait for a flag within the step.
    """

    def __init__(
        self, device: torch.device | str, *, first: float = FIRST, interval: int = INTERVAL
    ) -> None:
        self.interval = interval
        self.value = torch.tensor(first, dtype=torch.float32, device=device)
        self.good = torch.tensor(0, dtype=torch.int64, device=device)

    def grow(self, loss: Tensor) -> Tensor:
        """The loss times the factor."""
        return loss * self.value

    def shrink(self, parameters: Iterable[Tensor]) -> None:
        """Divide the gradients by the factor, in place."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if gradients:
            torch._foreach_mul_(gradients, self.value.reciprocal())

    def update(self, is_bad: Tensor) -> None:
        """Move the factor; everything stays on the device."""
        bad = is_bad.bool().reshape(())
        good = torch.where(bad, 0, self.good + 1)
        grows = good >= self.interval
        factor = torch.where(bad, BACKOFF, torch.where(grows, GROWTH, 1.0))
        self.value = self.value * factor
        self.good = torch.where(grows, 0, good)

    def to_json(self) -> dict[str, Any]:
        """The factor and the good steps so far."""
        return {"value": float(self.value), "good": int(self.good)}

    def load(self, saved: dict[str, Any]) -> None:
        """Go on from what ``to_json`` gave."""
        self.value.fill_(saved["value"])
        self.good.fill_(saved["good"])
