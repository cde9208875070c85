"""Pairs of answers: the one objective of all losses that compare a chosen and a rejected answer.

Dimensions: T tokens of the batch, N documents, P pairs. A pair is two documents, the chosen first.
"""

from __future__ import annotations

from dataclasses import astuple, fields, replace

import torch
from torch import Tensor

from tunesmith.config.objective import ObjectiveSection
from tunesmith.data.batch import Batch
from tunesmith.data.known import REFERENCE
from tunesmith.data.samples import PairSample, SampleKind
from tunesmith.models.policy import Policy, PolicyOutput, Want
from tunesmith.objectives.dpo_losses import Partners
from tunesmith.objectives.objective import (
    TOKENS,
    TRAINED,
    Average,
    Loss,
    document_lengths,
    segment_sum,
    weighted_sum,
)
from tunesmith.objectives.pair_losses import PairScores, pair_loss, partners_of

_SCORES = ("chosen_P", "rejected_P", "reference_chosen_P", "reference_rejected_P")
"""What losses that sort read of the pairs of a step."""


class Pairs:
    """The loss of ``rl`` over pairs, summed."""

    sample: SampleKind = "pairs"
    linear = False

    def __init__(self, section: ObjectiveSection) -> None:
        self._loss = pair_loss(section)
        self.name = section.method or ""
        self.version = f"1:{self._loss.tokens}"
        self.needs_reference = self._loss.reads_reference
        self.step_wide = self._loss.is_sorted

    def weights(self, sample: PairSample) -> dict[str, float]:
        """One pair, the tokens of its chosen document that the loss counts, and all that train."""
        weights = {"pairs": 1.0, TRAINED: float(sample.n_trained)}
        if self._loss.tokens == "answer":
            weights[TOKENS] = sample.chosen.total_weight
        elif self._loss.tokens == "document":
            weights[TOKENS] = float(len(sample.chosen) - 1)
        return weights

    def statistics(self, policy: Policy, batch: Batch) -> tuple[Batch, Tensor]:
        """Return what losses that sort read of each pair, [P, 4]."""
        with torch.no_grad():
            scores = self.scores(policy, batch)
        columns = [getattr(scores, name) for name in _SCORES]
        known = [torch.zeros_like(scores.chosen_P) if one is None else one for one in columns]
        return batch, torch.stack(known, dim=1)

    def inform(self, batch: Batch, every_RK: Tensor, start: int) -> Batch:
        """Return the batch with whom each of its pairs is compared with."""
        chosen_P, rejected_P, *known = every_RK.unbind(1)
        none_P = torch.zeros_like(chosen_P)
        partners = partners_of(PairScores(chosen_P, rejected_P, none_P, none_P, known[0], known[1]))
        n_pairs = batch.n_documents // 2
        noted = {
            field.name: _by_document(value_P[start : start + n_pairs], batch)
            for field, value_P in zip(fields(partners), astuple(partners), strict=True)
        }
        return replace(batch, documents=batch.documents | noted)

    def loss(self, policy: Policy, batch: Batch) -> Loss:
        """Return the summed loss of the batch's pairs, with the averages that are told of them."""
        terms = self._loss(self.scores(policy, batch))
        n_pairs = batch.targets["weights"].new_full((), batch.n_documents // 2)
        metrics = {name: Average(total.detach(), n_pairs) for name, total in terms.metrics.items()}
        return Loss(terms.sums, metrics)

    def scores(self, policy: Policy, batch: Batch) -> PairScores:
        """Return what policy and reference say of each pair."""
        everywhere = self._loss.tokens == "document"
        want = Want(everywhere=everywhere, concentration=self._loss.is_weighted)
        output: PolicyOutput = policy(batch, want)
        logps_T = output.logps_T
        assert logps_T is not None, "it was asked for"
        weighed = self._weighed(batch)
        chosen_P, rejected_P = split(weighted_sum(logps_T, weighed), batch)
        chosen_lengths_P, rejected_lengths_P = split(document_lengths(batch), batch)
        known_T = batch.targets.get(REFERENCE)
        known = (None, None) if known_T is None else split(weighted_sum(known_T, weighed), batch)
        return PairScores(
            chosen_P=chosen_P,
            rejected_P=rejected_P,
            chosen_lengths_P=chosen_lengths_P,
            rejected_lengths_P=rejected_lengths_P,
            reference_chosen_P=known[0],
            reference_rejected_P=known[1],
            chosen_text_P=self._text(logps_T, batch),
            likelihoods_P=_likelihoods(logps_T, output.concentration_T, batch),
            partners=_partners(batch),
        )

    def _weighed(self, batch: Batch) -> Batch:
        """The batch with what tokens behind the common length of their pair weigh."""
        if self._loss.tail_weight == 1.0:
            return batch
        weights_T = batch.targets["weights"]
        lengths_N = document_lengths(batch)
        shorter_P = torch.minimum(*split(lengths_N, batch))
        common_N = lengths_N.clone()
        common_N[: batch.n_documents] = shorter_P.repeat_interleave(2)
        sizes_N = batch.segments.diff().long()
        trained_T = (weights_T > 0).double()
        counted_T = trained_T.cumsum(0)
        before_N = counted_T[batch.segments[:-1].long()] - trained_T[batch.segments[:-1].long()]
        each = {"output_size": batch.n_tokens}
        rank_T = counted_T - before_N.repeat_interleave(sizes_N, **each)
        is_tail_T = rank_T > common_N.repeat_interleave(sizes_N, **each)
        tailed_T = torch.where(is_tail_T, weights_T * self._loss.tail_weight, weights_T)
        return replace(batch, targets=batch.targets | {"weights": tailed_T})

    def _text(self, logps_T: Tensor, batch: Batch) -> Tensor | None:
        """The plain sum over the chosen documents, or over their answers; [P]."""
        if self._loss.tokens == "document":
            # Nothing follows the last token of a document: its target is no part of the text.
            inside_T = torch.ones_like(logps_T)
            inside_T[batch.segments[1:].long() - 1] = 0
            return split(segment_sum(logps_T * inside_T, batch.segments), batch)[0]
        if self._loss.tokens == "answer" and self._loss.tail_weight != 1.0:
            return split(weighted_sum(logps_T, batch), batch)[0]
        return None


def split(values_N: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The values of the first and of the second documents of pairs, each [P]; no padding."""
    real = values_N[: batch.n_documents]
    return real[0::2], real[1::2]


def _by_document(values_P: Tensor, batch: Batch) -> Tensor:
    """Each pair's value at both of its documents, 0 at padding; [N]."""
    n_padding = len(batch.sources) - batch.n_documents
    return torch.cat([values_P.repeat_interleave(2), values_P.new_zeros(n_padding)])


def _partners(batch: Batch) -> Partners | None:
    names = [field.name for field in fields(Partners)]
    if names[0] not in batch.documents:
        return None
    return Partners(**{name: split(batch.documents[name], batch)[0] for name in names})


def _likelihoods(logps_T: Tensor, concentration_T: Tensor | None, batch: Batch) -> Tensor | None:
    """WPO's weight of each pair (arXiv:2406.11827, equation 3), [P], without a gradient.

    The mean log-prob of each answer's tokens, measured by what the policy would have on average,
    of both answers together.
    """
    if concentration_T is None:
        return None
    measured_N = weighted_sum(logps_T.detach() - concentration_T, batch) / document_lengths(batch)
    chosen_P, rejected_P = split(measured_N, batch)
    return torch.exp(chosen_P + rejected_P)
