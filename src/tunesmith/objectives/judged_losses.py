"""Losses of single answers that are judged good or bad: KTO and APO without pairs.

Dimension: A answers of a batch. As for pairs, a loss is a sum over answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.config.objective import ObjectiveSection
from tunesmith.objectives.pair_losses import USUAL_BETA


@dataclass(frozen=True, slots=True)
class JudgedScores:
    """What the models say of A answers; every field has the shape [A].

    ``logps_A`` and ``reference_A`` are log-probs summed over the trained tokens of each answer, the
    reference's without a gradient. ``is_good_A`` is true or false.
    """

    logps_A: Tensor
    reference_A: Tensor
    is_good_A: Tensor


@dataclass(frozen=True, slots=True)
class JudgedTerms:
    """The sum "answers" with a gradient, and (sum, count) of what is reported: some of it is a mean
    over the good or the bad answers alone.
    """

    sums: dict[str, Tensor]
    metrics: dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class JudgedLoss:
    """A loss of judged answers. ``reads_divergence``: it takes the ``divergence`` of the step."""

    terms: Callable[[JudgedScores, Tensor], JudgedTerms]
    reads_divergence: bool

    def __call__(self, scores: JudgedScores, divergence: Tensor) -> JudgedTerms:
        """The sum and metrics of A answers; ``divergence`` is a scalar."""
        return self.terms(scores, divergence)


def divergence_of(log_ratios: Tensor) -> Tensor:
    """KTO's estimate of KL(policy, reference), a scalar that is not negative and has no gradient.

    ``log_ratios`` are policy over reference of answers to *other* prompts (arXiv:2402.01306,
    section 4.1), all of a step.
    """
    return log_ratios.detach().mean().clamp(min=0)


def judged_loss(section: ObjectiveSection) -> JudgedLoss:
    """The loss of ``rl: kto``.

    Raises:
        ValueError: the section names another method.
    """
    if section.method != "kto":
        raise ValueError(f"{section.method} judges no single answers")
    beta = USUAL_BETA if section.beta is None else section.beta
    weights = (section.desirable_weight, section.undesirable_weight)
    reads = section.kto_loss == "kto"

    def terms(scores: JudgedScores, divergence: Tensor) -> JudgedTerms:
        anchor = divergence if reads else torch.zeros_like(divergence)
        return _terms(scores, beta, weights, anchor)

    return JudgedLoss(terms, reads_divergence=reads)


def _terms(
    scores: JudgedScores, beta: float, weights: tuple[float, float], anchor: Tensor
) -> JudgedTerms:
    """KTO (arXiv:2402.01306, equation 7); APO-zero (arXiv:2408.06266, equation 7) where the anchor
    is 0.
    """
    good_A = scores.is_good_A
    log_ratios_A = scores.logps_A - scores.reference_A
    # In the log-probs' own dtype: where() of two plain numbers would be float32.
    share_A = good_A.to(log_ratios_A)
    signs_A = 2 * share_A - 1
    weights_A = weights[0] * share_A + weights[1] * (1 - share_A)
    losses_A = weights_A * torch.sigmoid(-beta * signs_A * (log_ratios_A - anchor))
    rewards_A = beta * log_ratios_A.detach()
    metrics = {}
    for side, which_A in (("chosen", good_A), ("rejected", ~good_A)):
        which_A = which_A.to(rewards_A)
        metrics[f"rewards/{side}"] = ((rewards_A * which_A).sum(), which_A.sum())
        metrics[f"logps/{side}"] = ((scores.logps_A.detach() * which_A).sum(), which_A.sum())
    count = anchor.new_tensor(float(good_A.numel()))
    metrics["kl"] = (anchor * count, count)
    return JudgedTerms({"answers": losses_A.sum()}, metrics)
