"""What preference objectives make of pairs of answers: from log-probs to summed losses.

Dimension: P pairs of a batch. Everything here is a pure function of a few numbers a pair. A loss is
a *sum* over pairs (and, where it has a part that counts tokens, a sum over tokens), so that it does
not matter how the pairs of a step are cut into batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from tunesmith.config.objective import SORTED_LOSSES, ObjectiveSection
from tunesmith.objectives.dpo_losses import LOSSES, Numbers, Partners, Ratios, partners, score

USUAL_BETA = 0.1
"""``rl_beta`` where it is not given."""


@dataclass(frozen=True, slots=True)
class PairScores:
    """What the models say of P pairs; every field has the shape [P].

    ``chosen_P`` and ``rejected_P`` are the policy's log-probs, summed over the trained tokens of
    the answer with their weights; ``reference_*_P`` those of the reference, without a gradient, and
    None where the loss reads none. ``*_lengths_P`` count the trained tokens.

    ``chosen_text_P`` is the plain sum that ``PairLoss.tokens`` asks for, and None unless it differs
    from ``chosen_P``: over the whole chosen document with its prompt, or over the answer where
    ``chosen_P`` weighs its tail. ``likelihoods_P`` are the weights of ``dpo_use_weighting``,
    ``partners`` those of losses that sort; without the latter a batch is the whole step.
    """

    chosen_P: Tensor
    rejected_P: Tensor
    chosen_lengths_P: Tensor
    rejected_lengths_P: Tensor
    reference_chosen_P: Tensor | None = None
    reference_rejected_P: Tensor | None = None
    chosen_text_P: Tensor | None = None
    likelihoods_P: Tensor | None = None
    partners: Partners | None = None

    @property
    def reference_margin_P(self) -> Tensor:
        """The reference's log-prob of the chosen answers less that of the rejected; 0 without."""
        if self.reference_chosen_P is None or self.reference_rejected_P is None:
            return torch.zeros_like(self.chosen_P)
        return self.reference_chosen_P - self.reference_rejected_P

    @property
    def log_ratios(self) -> tuple[Tensor, Tensor]:
        """Policy over reference, of the chosen and the rejected answers, each [P]."""
        if self.reference_chosen_P is None or self.reference_rejected_P is None:
            return self.chosen_P, self.rejected_P
        return self.chosen_P - self.reference_chosen_P, self.rejected_P - self.reference_rejected_P


@dataclass(frozen=True, slots=True)
class PairTerms:
    """Named sums with a gradient, "pairs" and perhaps "tokens", and sums over pairs to report."""

    sums: dict[str, Tensor]
    metrics: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PairLoss:
    """A preference loss, and what it needs.

    ``tokens`` says which tokens of the chosen document its sum "tokens" is about, and is divided
    by: none, those of the answer that train, or all but the first ("document"). ``tail_weight`` is
    what tokens weigh behind the length that both answers have. ``is_sorted``: the pairs of a step
    are compared with each other, by ``partners_of`` before the first backward pass.
    """

    terms: Callable[[PairScores], PairTerms]
    reads_reference: bool = False
    tokens: Literal["none", "answer", "document"] = "none"
    tail_weight: float = 1.0
    is_weighted: bool = False
    is_sorted: bool = False

    def __call__(self, scores: PairScores) -> PairTerms:
        """The sums and metrics of P pairs."""
        return self.terms(scores)


def pair_loss(section: ObjectiveSection) -> PairLoss:
    """The loss of ``rl``: dpo, ipo, orpo or simpo.

    Raises:
        ValueError: the section names none of them.
    """
    beta = USUAL_BETA if section.beta is None else section.beta
    if section.method in ("dpo", "ipo"):
        return _dpo(section, beta)
    if section.method == "orpo":
        weight = beta if section.odds_weight is None else section.odds_weight
        return PairLoss(lambda scores: _orpo(scores, weight), tokens="document")
    if section.method == "simpo":
        tokens: Literal["none", "answer"] = "answer" if section.cpo_alpha else "none"
        return PairLoss(lambda scores: _cpo(scores, section, beta), tokens=tokens)
    raise ValueError(f"{section.method} compares no pairs")


def partners_of(scores: PairScores) -> Partners:
    """Whom each pair is compared with, where these are all pairs of a step.

    Field by field it is cut into batches as the scores are.
    """
    return partners(*scores.log_ratios, scores.reference_margin_P)


def _dpo(section: ObjectiveSection, beta: float) -> PairLoss:
    names = ("ipo",) if section.method == "ipo" else section.loss_types
    weights = section.loss_weights or (1.0,) * len(names)
    mixture = tuple(zip(names, weights, strict=True))
    numbers = Numbers(beta, section.label_smoothing, section.temperature)
    is_sorted = bool(SORTED_LOSSES & set(names))

    def terms(scores: PairScores) -> PairTerms:
        pairs = _ratios(scores, section, is_sorted=is_sorted)
        total_P = torch.zeros_like(pairs.chosen_P)
        sums: dict[str, Tensor] = {}
        for name, weight in mixture:
            if name == "sft":
                sums["tokens"] = sums.get("tokens", 0) - weight * _text(scores).sum()
            else:
                total_P = total_P + weight * LOSSES[name](pairs, numbers)
        if scores.likelihoods_P is not None:
            total_P = total_P * scores.likelihoods_P
        return PairTerms({"pairs": total_P.sum(), **sums}, _dpo_metrics(scores, pairs, beta))

    return PairLoss(
        terms,
        reads_reference=not section.reference_free,
        tokens="answer" if "sft" in names else "none",
        tail_weight=section.tail_weight,
        is_weighted=section.use_weighting,
        is_sorted=is_sorted,
    )


def _ratios(scores: PairScores, section: ObjectiveSection, *, is_sorted: bool) -> Ratios:
    chosen_P, rejected_P = scores.log_ratios
    found = scores.partners
    if found is None and is_sorted:
        found = partners_of(scores)
    kind, alpha = section.divergence, section.divergence_alpha
    return Ratios(
        chosen_P=chosen_P,
        rejected_P=rejected_P,
        chosen_scores_P=score(chosen_P, kind, alpha),
        rejected_scores_P=score(rejected_P, kind, alpha),
        chosen_lengths_P=scores.chosen_lengths_P,
        rejected_lengths_P=scores.rejected_lengths_P,
        reference_margin_P=scores.reference_margin_P,
        partners=found,
    )


def _text(scores: PairScores) -> Tensor:
    return scores.chosen_P if scores.chosen_text_P is None else scores.chosen_text_P


def _orpo(scores: PairScores, weight: float) -> PairTerms:
    """ORPO (arXiv:2403.07691, equations 6 and 7).

    Cross-entropy of the chosen document, less the weighted log-sigmoid of the log odds ratio of
    the answers' mean log-probs.
    """
    if scores.chosen_text_P is None:
        raise ValueError("ORPO reads the whole chosen document")
    chosen_P = scores.chosen_P / scores.chosen_lengths_P
    rejected_P = scores.rejected_P / scores.rejected_lengths_P
    log_odds_P = chosen_P - rejected_P - (_log_not(chosen_P) - _log_not(rejected_P))
    log_better_P = logsigmoid(log_odds_P)
    metrics = {
        **_metrics(weight * chosen_P, weight * rejected_P, chosen_P, rejected_P),
        "log_odds_ratio": log_better_P.detach().sum(),
        "log_odds_chosen": log_odds_P.detach().sum(),
    }
    sums = {"pairs": -weight * log_better_P.sum(), "tokens": -scores.chosen_text_P.sum()}
    return PairTerms(sums, metrics)


def _log_not(logp_P: Tensor) -> Tensor:
    """``log(1 - exp(logp))``, exact near 0 and far from it.

    Probabilities that cannot be told from 1 are taken as the largest that can.
    """
    logp_P = logp_P.clamp(max=-torch.finfo(logp_P.dtype).eps)
    near_P = logp_P > -0.6931471805599453
    # Both branches get numbers that they can take: where() has the gradient of what it leaves out.
    close_P = torch.where(near_P, logp_P, torch.full_like(logp_P, -0.5))
    far_P = torch.where(near_P, torch.full_like(logp_P, -1.0), logp_P)
    return torch.where(near_P, torch.log(-torch.expm1(close_P)), torch.log1p(-torch.exp(far_P)))


def _cpo(scores: PairScores, section: ObjectiveSection, beta: float) -> PairTerms:
    """CPO (arXiv:2401.08417, equation 3), or SimPO (arXiv:2405.14734, equation 6)."""
    chosen_P, rejected_P = scores.chosen_P, scores.rejected_P
    if section.cpo_loss in ("simpo", "ipo"):
        chosen_P = chosen_P / scores.chosen_lengths_P
        rejected_P = rejected_P / scores.rejected_lengths_P
    margin_P = beta * (chosen_P - rejected_P)
    if section.cpo_loss == "hinge":
        losses_P = torch.relu(1 - margin_P)
    elif section.cpo_loss == "ipo":
        losses_P = (chosen_P - rejected_P - 1 / (2 * beta)) ** 2
    else:
        gamma = section.simpo_margin if section.cpo_loss == "simpo" else 0.0
        losses_P = -logsigmoid(margin_P - gamma)
    sums = {"pairs": losses_P.sum()}
    if section.cpo_alpha:
        sums["tokens"] = -section.cpo_alpha * _text(scores).sum()
    return PairTerms(sums, _metrics(beta * chosen_P, beta * rejected_P, chosen_P, rejected_P))


def _dpo_metrics(scores: PairScores, pairs: Ratios, beta: float) -> dict[str, Tensor]:
    return _metrics(
        beta * pairs.chosen_P, beta * pairs.rejected_P, scores.chosen_P, scores.rejected_P
    )


def _metrics(
    chosen_rewards_P: Tensor, rejected_rewards_P: Tensor, chosen_P: Tensor, rejected_P: Tensor
) -> dict[str, Tensor]:
    """What is reported of pairs, as sums; the names are those of TRL's trainers."""
    better_P = (chosen_rewards_P > rejected_rewards_P).to(chosen_P.dtype)
    each = {
        "rewards/chosen": chosen_rewards_P,
        "rewards/rejected": rejected_rewards_P,
        "rewards/margins": chosen_rewards_P - rejected_rewards_P,
        "rewards/accuracies": better_P,
        "logps/chosen": chosen_P,
        "logps/rejected": rejected_P,
    }
    return {name: values_P.detach().sum() for name, values_P in each.items()}
