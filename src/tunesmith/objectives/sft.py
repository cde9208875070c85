"""Supervised fine-tuning: the weighted next-token cross-entropy, summed."""

from __future__ import annotations

from tunesmith.data.batch import Batch
from tunesmith.data.samples import TokenSample
from tunesmith.models.policy import Policy, Want
from tunesmith.objectives.objective import Loss


class Sft:
    """``-sum(weight * log p(token))`` over every trained token; its total is the sum of weights."""

    name = "sft"
    version = "1"
    linear = True

    def weights(self, sample: TokenSample) -> dict[str, float]:
        """Return the sample's share of the total: the weights of its targets."""
        return {"tokens": sample.total_weight}

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        """Return the summed loss; the weights are its log-prob coefficients, known beforehand."""
        output = policy(batch, Want(logps=False, coefficients_T=batch.targets["weights"]))
        assert output.dot is not None, "asked for by the coefficients"
        return Loss(
            sums={"tokens": -output.dot},
            # Seen, not trained on: it is a mean over all tokens, and the total counts trained ones.
            metrics={name: value.detach() for name, value in output.auxiliary.items()},
        )
