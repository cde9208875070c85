"""The losses of DPO and its kin, each a formula of how policy and reference see P pairs.

A *log ratio* is an answer's log-prob under the policy less that under the reference. A *score* is
the reward that a divergence makes of it (f-DPO, arXiv:2309.16240); for reverse KL, which DPO uses,
the two are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

_EXPONENT_LIMIT = 80.0
"""The largest exponent of e that float32 holds with room to spare."""


@dataclass(frozen=True, slots=True)
class Partners:
    """Whom each pair of a step is compared with by the losses that sort; without a gradient.

    ``reference_P``: the reference's log ratio, chosen over rejected, that has the rank of the
    pair's own under the policy. ``rejected_P`` and ``chosen_P``: the rejected answer's log ratio
    with the rank of the pair's chosen one, and the reverse.
    """

    reference_P: Tensor
    rejected_P: Tensor
    chosen_P: Tensor


@dataclass(frozen=True, slots=True)
class Ratios:
    """P pairs as the losses see them; all of shape [P]."""

    chosen_P: Tensor
    rejected_P: Tensor
    chosen_scores_P: Tensor
    rejected_scores_P: Tensor
    chosen_lengths_P: Tensor
    rejected_lengths_P: Tensor
    reference_margin_P: Tensor
    partners: Partners | None = None

    @property
    def margin_P(self) -> Tensor:
        """By how much the chosen answer's score exceeds the rejected one's."""
        return self.chosen_scores_P - self.rejected_scores_P

    @property
    def mean_margin_P(self) -> Tensor:
        """The same of scores a token."""
        chosen_P = self.chosen_scores_P / self.chosen_lengths_P
        return chosen_P - self.rejected_scores_P / self.rejected_lengths_P


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers that the formulas share."""

    beta: float
    smoothing: float = 0.0
    temperature: float = 0.05


def score(log_ratio_P: Tensor, divergence: str, alpha: float) -> Tensor:
    """The reward of an answer over beta: the derivative of the divergence's f at the ratio.

    ``divergence`` is reverse_kl, forward_kl, js or alpha; ``alpha`` is read by the last alone.
    """
    if divergence == "forward_kl":
        return 1 - torch.exp((-log_ratio_P).clamp(max=_EXPONENT_LIMIT))
    if divergence == "js":
        return math.log(2) + logsigmoid(log_ratio_P)
    if divergence == "alpha" and not math.isclose(alpha, 1):
        power = ((alpha - 1) * log_ratio_P).clamp(max=_EXPONENT_LIMIT)
        return torch.expm1(power) / (alpha - 1)
    return log_ratio_P


def partners(chosen_P: Tensor, rejected_P: Tensor, reference_margin_P: Tensor) -> Partners:
    """The partners of every pair of a step.

    ``chosen_P`` and ``rejected_P`` are log ratios, ``reference_margin_P`` the reference's log-prob
    of the chosen answers less that of the rejected ones.
    """
    chosen_P, rejected_P = chosen_P.detach(), rejected_P.detach()
    policy_margin_P = chosen_P - rejected_P + reference_margin_P
    return Partners(
        reference_P=_of_same_rank(policy_margin_P, reference_margin_P),
        rejected_P=_of_same_rank(chosen_P, rejected_P),
        chosen_P=_of_same_rank(rejected_P, chosen_P),
    )


def _of_same_rank(own_P: Tensor, others_P: Tensor) -> Tensor:
    ranks_P = own_P.argsort(stable=True).argsort()
    return others_P.sort(stable=True).values[ranks_P]


def sigmoid(pairs: Ratios, numbers: Numbers) -> Tensor:
    """DPO (arXiv:2305.18290, equation 7), or conservative DPO where labels are smoothed."""
    return _smoothed(numbers.beta * pairs.margin_P, numbers.smoothing)


def hinge(pairs: Ratios, numbers: Numbers) -> Tensor:
    """SLiC's hinge on DPO's reward (arXiv:2309.06657)."""
    return torch.relu(1 - numbers.beta * pairs.margin_P)


def ipo(pairs: Ratios, numbers: Numbers) -> Tensor:
    """IPO (arXiv:2310.12036, equation 17), of log ratios a token; beta is its tau."""
    return (pairs.mean_margin_P - 1 / (2 * numbers.beta)) ** 2


def exo_pair(pairs: Ratios, numbers: Numbers) -> Tensor:
    """EXO on preferences (arXiv:2402.00856, equation 16); the smoothing is its epsilon."""
    margin_P = numbers.beta * pairs.margin_P
    better_P, worse_P = logsigmoid(margin_P), logsigmoid(-margin_P)
    better_P = better_P.exp() * (better_P - math.log1p(-numbers.smoothing))
    return better_P + worse_P.exp() * (worse_P - math.log(numbers.smoothing))


def nca_pair(pairs: Ratios, numbers: Numbers) -> Tensor:
    """NCA for pairs (arXiv:2402.05369)."""
    chosen_P, rejected_P = numbers.beta * pairs.chosen_P, numbers.beta * pairs.rejected_P
    return -logsigmoid(chosen_P) - (logsigmoid(-chosen_P) + logsigmoid(-rejected_P)) / 2


def robust(pairs: Ratios, numbers: Numbers) -> Tensor:
    """Robust DPO (arXiv:2403.00409): unbiased where a share of labels is flipped."""
    margin_P, share = numbers.beta * pairs.margin_P, numbers.smoothing
    clean_P, flipped_P = -logsigmoid(margin_P), -logsigmoid(-margin_P)
    return ((1 - share) * clean_P - share * flipped_P) / (1 - 2 * share)


def bco_pair(pairs: Ratios, numbers: Numbers) -> Tensor:
    """BCO of pairs without its shift (arXiv:2404.04656)."""
    return -logsigmoid(numbers.beta * pairs.chosen_P) - logsigmoid(-numbers.beta * pairs.rejected_P)


def sppo_hard(pairs: Ratios, numbers: Numbers) -> Tensor:
    """SPPO (arXiv:2405.00675, equation 4.7) where the better answer wins for certain."""
    half = 0.5 / numbers.beta
    return (pairs.chosen_P - half) ** 2 + (pairs.rejected_P + half) ** 2


def aot(pairs: Ratios, numbers: Numbers) -> Tensor:
    """AOT (arXiv:2406.05882), paired: the policy's margins, ordered, against the reference's."""
    assert pairs.partners is not None, "found for losses that sort"
    policy_P = pairs.chosen_P - pairs.rejected_P + pairs.reference_margin_P
    margin_P = policy_P - pairs.partners.reference_P
    return _smoothed(numbers.beta * margin_P, numbers.smoothing)


def aot_unpaired(pairs: Ratios, numbers: Numbers) -> Tensor:
    """AOT, unpaired: the chosen answers' log ratios, ordered, against the rejected ones'.

    Each comparison is of two answers that may lie in different batches. Both own its gradient,
    each with the other held fixed, and each counts half of its value.
    """
    assert pairs.partners is not None, "found for losses that sort"
    chosen_P = _smoothed(
        numbers.beta * (pairs.chosen_P - pairs.partners.rejected_P), numbers.smoothing
    )
    rejected_P = _smoothed(
        numbers.beta * (pairs.partners.chosen_P - pairs.rejected_P), numbers.smoothing
    )
    both_P = chosen_P + rejected_P
    return both_P - both_P.detach() / 2


def apo_zero(pairs: Ratios, numbers: Numbers) -> Tensor:
    """APO-zero (arXiv:2408.06266, equation 7): good answers up, bad ones down."""
    return torch.sigmoid(-numbers.beta * pairs.chosen_P) + torch.sigmoid(
        numbers.beta * pairs.rejected_P
    )


def apo_down(pairs: Ratios, numbers: Numbers) -> Tensor:
    """APO-down (arXiv:2408.06266, equation 8): both down, bad answers more."""
    apart_P = numbers.beta * (pairs.chosen_P - pairs.rejected_P)
    return torch.sigmoid(numbers.beta * pairs.chosen_P) + torch.sigmoid(-apart_P)


def discopop(pairs: Ratios, numbers: Numbers) -> Tensor:
    """DiscoPOP (arXiv:2406.08414, equation 5)."""
    margin_P = numbers.beta * pairs.margin_P
    share_P = torch.sigmoid(margin_P / numbers.temperature)
    steep_P = torch.exp((-margin_P).clamp(max=_EXPONENT_LIMIT))
    return -logsigmoid(margin_P) * (1 - share_P) + steep_P * share_P


def sigmoid_norm(pairs: Ratios, numbers: Numbers) -> Tensor:
    """DPO of scores a token (arXiv:2411.15124)."""
    return -logsigmoid(numbers.beta * pairs.mean_margin_P)


def _smoothed(margin_P: Tensor, smoothing: float) -> Tensor:
    return -(1 - smoothing) * logsigmoid(margin_P) - smoothing * logsigmoid(-margin_P)


LOSSES: Mapping[str, Callable[[Ratios, Numbers], Tensor]] = {
    loss.__name__: loss
    for loss in (
        *(sigmoid, hinge, ipo, exo_pair, nca_pair, robust, bco_pair, sppo_hard, aot),
        *(aot_unpaired, apo_zero, apo_down, discopop, sigmoid_norm),
    )
}
"""Name in ``dpo_loss_type`` -> the loss of each pair, [P]; ``sft`` is a sum over tokens."""
