"""Supervised fine-tuning: the weighted next-token cross-entropy, summed."""

from __future__ import annotations

import torch

from tunesmith.config.objective import ObjectiveSection
from tunesmith.data.batch import Batch
from tunesmith.models.policy import Policy, Want
from tunesmith.objectives.objective import Average, Loss
from tunesmith.objectives.shares import SftShares


class Sft(SftShares):
    """``-sum(weight * log p(token))`` over every trained token; its total is the sum of weights."""

    linear = True
    needs_reference = False
    step_wide = False

    def __init__(self, section: ObjectiveSection | None = None) -> None:
        """Nothing of the section decides the loss."""

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        """Return the summed loss; the weights are its log-prob coefficients, known beforehand."""
        output = policy(batch, Want(logps=False, coefficients_T=batch.targets["weights"]))
        assert output.dot is not None, "asked for by the coefficients"
        weight = batch.targets["weights"].sum(dtype=torch.float64)
        return Loss(
            sums={"tokens": -output.dot},
            # Seen, not trained on: it is a mean over all tokens, and the weight is of trained ones.
            metrics={
                name: Average(value.detach(), weight) for name, value in output.auxiliary.items()
            },
        )
