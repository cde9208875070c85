"""What an objective is: the columns it reads, what a sample weighs, and the *summed* loss.

Losses are sums. The engine divides each named sum once, by its own global weight, which is known
before the first forward. So packing, accumulation, world size and unequal batches cannot change
the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from tunesmith.data.batch import Batch
from tunesmith.data.samples import TokenSample
from tunesmith.models.policy import Policy


@dataclass(frozen=True, slots=True)
class Loss:
    """Named sums (scalars with a gradient) and named metrics (detached scalar sums)."""

    sums: dict[str, Tensor]
    metrics: dict[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """One file, one loss. No I/O, no optimizer, no collectives.

    ``version`` changes when ``weights`` would answer differently: it is part of the cache key.
    ``linear`` is true where the log-prob coefficients are known before the forward (supervised).
    """

    name: str
    version: str
    linear: bool

    def weights(self, sample: TokenSample) -> dict[str, float]:
        """The sample's share of each named total."""
        ...

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        """The summed loss of one micro-batch."""
        ...
