"""What the model said before it was trained: the log-prob of each document.

Dimension: N documents of the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tunesmith.data.batch import Batch
from tunesmith.data.samples import SampleKind
from tunesmith.models.adapters import disabled
from tunesmith.models.modes import evaluating
from tunesmith.models.policy import Policy
from tunesmith.objectives.objective import Loss, Objective, document_logps

Reference = Callable[[Policy, Batch], Tensor]
"""The weighted sum of the log-probs of each document's trained tokens, float64 [N], no gradient."""

REFERENCE = "reference"
"""The documents' column that holds it."""


class Referenced:
    """An objective whose batches are given what the reference says of them, unless they have it."""

    linear = False
    needs_reference = False

    def __init__(self, objective: Objective, reference: Reference) -> None:
        self._objective, self._reference = objective, reference
        self.name, self.version = objective.name, objective.version
        self.sample: SampleKind = objective.sample

    def weights(self, sample: Any) -> dict[str, float]:
        """The sample's share of each named total."""
        return self._objective.weights(sample)

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        """The summed loss of one micro-batch."""
        return self._objective.loss(policy, self.asked(policy, batch))

    def asked(self, policy: Policy, batch: Batch) -> Batch:
        """The batch with the reference's log-probs."""
        if REFERENCE in batch.documents:
            return batch
        said = {REFERENCE: self._reference(policy, batch)}
        return replace(batch, documents=batch.documents | said)


def adapter_off(policy: Policy, batch: Batch) -> Tensor:
    """What the base under the adapter says, [N]: one model, run twice."""
    with torch.no_grad(), evaluating(policy), disabled(policy.model):
        return document_logps(policy, batch)


class FrozenCopy:
    """Another policy that never trains: a copy of the base, or of another checkpoint."""

    def __init__(self, reference: Policy) -> None:
        reference.requires_grad_(requires_grad=False)
        self._reference = reference.eval()

    def __call__(self, policy: Policy, batch: Batch) -> Tensor:
        """What it says, [N]."""
        with torch.no_grad():
            return document_logps(self._reference, batch)
