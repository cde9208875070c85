"""What the model said before it was trained: the log-probs of the targets.

Dimensions: T tokens of the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from tunesmith.data.batch import Batch
from tunesmith.data.known import REFERENCE
from tunesmith.data.samples import SampleKind
from tunesmith.models.adapters import disabled
from tunesmith.models.modes import evaluating
from tunesmith.models.policy import Policy
from tunesmith.objectives.objective import Loss, Objective, StepWide, token_logps

Reference = Callable[[Policy, Batch], Tensor]
"""The log-prob of each target that trains, float32 [T], without a gradient; 0 elsewhere."""


class Referenced:
    """An objective whose batches are given what the reference says of them, unless they have it."""

    linear = False
    needs_reference = False

    def __init__(self, objective: Objective, reference: Reference) -> None:
        self._objective, self.reference = objective, reference
        self.name, self.version = objective.name, objective.version
        self.sample: SampleKind = objective.sample
        self.step_wide = objective.step_wide

    def weights(self, sample: Any) -> dict[str, float]:
        """The sample's share of each named total."""
        return self._objective.weights(sample)

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        """The summed loss of one micro-batch."""
        return self._objective.loss(policy, self.asked(policy, batch))

    def statistics(self, policy: Policy, batch: Batch) -> tuple[Batch, Tensor]:
        """As the objective's own."""
        batch = self.asked_all(policy, batch)
        return cast(StepWide, self._objective).statistics(policy, batch)

    def inform(self, batch: Batch, every_RK: Tensor, start: int) -> Batch:
        """As the objective's own."""
        return cast(StepWide, self._objective).inform(batch, every_RK, start)

    def asked(self, policy: Policy, batch: Batch) -> Batch:
        """The batch with the reference's log-probs."""
        if REFERENCE in batch.targets:
            return batch
        said = {REFERENCE: self.reference(policy, batch)}
        return replace(batch, targets=batch.targets | said)

    def asked_all(self, policy: Policy, batch: Batch) -> Batch:
        """The same of its strangers too."""
        batch = self.asked(policy, batch)
        if batch.strangers is None:
            return batch
        return replace(batch, strangers=self.asked(policy, batch.strangers))


def itself(policy: Policy, batch: Batch) -> Tensor:
    """What the policy says now, [T]: before the first step that is what the reference says."""
    with torch.no_grad(), evaluating(policy):
        return token_logps(policy, batch)


def adapter_off(policy: Policy, batch: Batch) -> Tensor:
    """What the base under the adapter says, [T]: one model, run twice."""
    with torch.no_grad(), evaluating(policy), disabled(policy.model):
        return token_logps(policy, batch)


class FrozenCopy:
    """Another policy that never trains: a copy of the base, or of another checkpoint."""

    def __init__(self, reference: Policy, like: Policy) -> None:
        """``like`` is the policy that it is compared with."""
        reference.requires_grad_(requires_grad=False)
        # A head that trains is multiplied in another way than one that does not. What is compared
        # must not differ by its rounding, so that the copy's head is of the same kind.
        heads = (one.model.get_output_embeddings() for one in (reference, like))
        own, other = (list(head.parameters()) if head is not None else [] for head in heads)
        for parameter in own:
            parameter.requires_grad = any(one.requires_grad for one in other)
        self._reference = reference.eval()

    def __call__(self, policy: Policy, batch: Batch) -> Tensor:
        """What it says, [T]."""
        with torch.no_grad():
            return token_logps(self._reference, batch)
