"""Pairs of answers: the one objective of all losses that compare a chosen and a rejected answer.

Dimensions: N documents of the batch, P pairs. A pair is two documents, the chosen one first.
"""

from __future__ import annotations

from torch import Tensor

from tunesmith.config.objective import ObjectiveSection
from tunesmith.data.batch import Batch
from tunesmith.data.samples import PairSample, SampleKind
from tunesmith.models.policy import Policy
from tunesmith.objectives.objective import (
    TOKENS,
    TRAINED,
    Average,
    Loss,
    document_lengths,
    document_logps,
)
from tunesmith.objectives.pair_losses import PairScores, pair_loss
from tunesmith.objectives.reference import REFERENCE


class Pairs:
    """The loss of ``rl`` over pairs, summed."""

    sample: SampleKind = "pairs"
    linear = False

    def __init__(self, section: ObjectiveSection) -> None:
        self._loss = pair_loss(section)
        self.name = section.method or ""
        self.version = f"1:{self._loss.tokens}"
        self.needs_reference = self._loss.reads_reference

    def weights(self, sample: PairSample) -> dict[str, float]:
        """One pair, the tokens of its chosen document that the loss counts, and all that train."""
        weights = {"pairs": 1.0, TRAINED: float(sample.n_trained)}
        if self._loss.tokens == "answer":
            weights[TOKENS] = sample.chosen.total_weight
        elif self._loss.tokens == "document":
            weights[TOKENS] = float(len(sample.chosen) - 1)
        return weights

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        """Return the summed loss of the batch's pairs, with the averages that are told of them."""
        terms = self._loss(self.scores(policy, batch))
        n_pairs = batch.targets["weights"].new_full((), batch.n_documents // 2)
        metrics = {name: Average(total.detach(), n_pairs) for name, total in terms.metrics.items()}
        return Loss(terms.sums, metrics)

    def scores(self, policy: Policy, batch: Batch) -> PairScores:
        """Return what policy and reference say of each pair."""
        chosen_P, rejected_P = split(document_logps(policy, batch), batch)
        chosen_lengths_P, rejected_lengths_P = split(document_lengths(batch), batch)
        known_N = batch.documents.get(REFERENCE)
        known = (None, None) if known_N is None else split(known_N, batch)
        return PairScores(
            chosen_P=chosen_P,
            rejected_P=rejected_P,
            chosen_lengths_P=chosen_lengths_P,
            rejected_lengths_P=rejected_lengths_P,
            reference_chosen_P=known[0],
            reference_rejected_P=known[1],
        )


def split(values_N: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The values of the first and of the second documents of pairs, each [P]; no padding."""
    real = values_N[: batch.n_documents]
    return real[0::2], real[1::2]
