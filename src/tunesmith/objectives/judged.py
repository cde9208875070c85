"""Single answers that are judged good or bad: KTO.

Dimensions: T tokens of the batch, N documents, A answers.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tunesmith.config.objective import ObjectiveSection
from tunesmith.data.batch import Batch
from tunesmith.data.known import REFERENCE
from tunesmith.data.samples import JudgedSample, SampleKind
from tunesmith.models.policy import Policy
from tunesmith.objectives.judged_losses import JudgedScores, divergence_of, judged_loss
from tunesmith.objectives.objective import (
    TRAINED,
    Average,
    Loss,
    document_logps,
    token_logps,
    weighted_sum,
)

DIVERGENCE = "divergence"
"""The documents' column that holds the step's estimate of KL(policy, reference), the same for all.
"""


class Judged:
    """The loss of ``rl: kto``, summed over the answers."""

    version = "1"
    sample: SampleKind = "judged"
    linear = False
    needs_reference = True

    def __init__(self, section: ObjectiveSection) -> None:
        self._loss = judged_loss(section)
        self.name = section.method or ""
        self.step_wide = self._loss.reads_divergence

    def weights(self, sample: JudgedSample) -> dict[str, float]:
        """One answer, and its tokens that train."""
        return {"answers": 1.0, TRAINED: float(sample.n_trained)}

    def statistics(self, policy: Policy, batch: Batch) -> tuple[Batch, Tensor]:
        """Return how much likelier the policy finds each stranger than the reference, [A, 1]."""
        strangers = batch.strangers
        if strangers is None:
            return batch, batch.targets["weights"].new_zeros((0, 1), dtype=torch.float64)
        with torch.no_grad():
            gained_T = token_logps(policy, strangers) - strangers.targets[REFERENCE]
        return batch, weighted_sum(gained_T, strangers)[: strangers.n_documents, None]

    def inform(self, batch: Batch, every_RK: Tensor, start: int) -> Batch:
        """Return the batch with the step's divergence."""
        divergence_N = divergence_of(every_RK[:, 0]).expand(len(batch.sources))
        return replace(batch, documents=batch.documents | {DIVERGENCE: divergence_N})

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        """Return the summed loss of the batch's answers; padding alone has none."""
        logps_N = document_logps(policy, batch)
        n_answers = batch.n_documents
        labels_N = batch.documents.get("label", torch.zeros_like(logps_N))
        divergence_N = batch.documents.get(DIVERGENCE, torch.zeros_like(logps_N.detach()))
        scores = JudgedScores(
            logps_A=logps_N[:n_answers],
            reference_A=weighted_sum(batch.targets[REFERENCE], batch)[:n_answers],
            is_good_A=labels_N[:n_answers] > 0,
        )
        terms = self._loss(scores, divergence_N[0])
        return Loss(terms.sums, {name: Average(*found) for name, found in terms.metrics.items()})
