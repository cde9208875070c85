"""What an objective is: the columns it reads, what a sample weighs, and the *summed* loss.

Losses are sums. The engine divides each named sum once, by its own global weight, which is known
before the first forward. So packing, accumulation, world size and unequal batches cannot change
the gradient.

Dimensions: T tokens of the batch, N documents.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from tunesmith.data.batch import Batch
from tunesmith.data.samples import SampleKind
from tunesmith.models.policy import Policy, PolicyOutput, Want

TOKENS, TRAINED = "tokens", "trained"
"""Names of totals: of a loss over tokens, and of all tokens that train, where those are others."""


class Average(NamedTuple):
    """A number that is reported: the sum of ``total`` over a step, by the sum of ``weight``."""

    total: Tensor
    weight: Tensor


@dataclass(frozen=True, slots=True)
class Loss:
    """Named sums (scalars with a gradient) and named metrics (without one)."""

    sums: dict[str, Tensor]
    metrics: dict[str, Average] = field(default_factory=dict)


class Objective(Protocol):
    """One file, one loss. No I/O, no optimizer, no collectives.

    ``version`` changes when ``weights`` would answer differently: it is part of the cache key.
    ``sample`` is the kind of sample that it reads. ``linear`` is true where the log-prob
    coefficients are known before the forward (supervised). With ``needs_reference`` the batches of
    ``loss`` have the ``reference`` log-probs. ``step_wide``: see ``StepWide``.
    """

    name: str
    version: str
    sample: SampleKind
    linear: bool
    needs_reference: bool
    step_wide: bool

    # Of the one kind of sample that it reads: a kind of its own for each would be no protocol.
    def weights(self, sample: Any) -> dict[str, float]:
        """The sample's share of each named total."""
        ...

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        """The summed loss of one micro-batch."""
        ...


class StepWide(Objective, Protocol):
    """An objective whose loss reads numbers of the whole step, gathered before the first backward.

    The order of the calls: ``statistics`` of every micro-batch of the global step, ``inform`` for
    each of this rank's, ``loss``.
    """

    def statistics(self, policy: Policy, batch: Batch) -> tuple[Batch, Tensor]:
        """The batch, with what was found on the way, and its rows of numbers, [R, K]."""
        ...

    def inform(self, batch: Batch, every_RK: Tensor, start: int) -> Batch:
        """The batch with what follows for it from the rows of all; its own begin at ``start``."""
        ...


def segment_sum(values_T: Tensor, segments: Tensor) -> Tensor:
    """The sum over each document, float64 [N]; ``segments`` as in ``Batch``.

    In double, so that how documents are packed cannot be seen in the last digits.
    """
    # Not by adding at indices: on a GPU the order of such additions changes from call to call.
    found: Tensor = torch.segment_reduce(
        values_T.double(), "sum", offsets=segments.long(), axis=0, initial=0.0
    )
    return found


def token_logps(policy: Policy, batch: Batch) -> Tensor:
    """The log-prob of each target that trains, float32 [T]; 0 elsewhere."""
    output: PolicyOutput = policy(batch, Want())
    assert output.logps_T is not None, "it was asked for"
    return output.logps_T


def document_logps(policy: Policy, batch: Batch) -> Tensor:
    """The weighted sum of the log-probs of each document's trained tokens, float64 [N]."""
    return weighted_sum(token_logps(policy, batch), batch)


def weighted_sum(values_T: Tensor, batch: Batch) -> Tensor:
    """The sum over each document with the targets' weights, float64 [N]."""
    return segment_sum(values_T.double() * batch.targets["weights"], batch.segments)


def document_lengths(batch: Batch) -> Tensor:
    """How many tokens of each document train, float64 [N]."""
    return segment_sum((batch.targets["weights"] > 0).double(), batch.segments)
