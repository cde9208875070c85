"""Losses of reward models: of whole answers in pairs (Bradley-Terry), and of single steps.

Dimensions: P pairs, S ends of steps, C classes of a step.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from tunesmith.objectives.pair_losses import PairTerms


def reward_terms(
    chosen_P: Tensor, rejected_P: Tensor, *, margins_P: Tensor | None, centring: float
) -> PairTerms:
    """Bradley-Terry on the rewards of both answers, as a sum over pairs.

    ``margins_P`` says by how much the better reward is to exceed the other (arXiv:2307.09288,
    equation 2); ``centring`` weighs the square of the pair's summed reward, which pulls rewards to
    a mean of 0 (arXiv:2312.09244, section 3.1).
    """
    apart_P = chosen_P - rejected_P
    wanted_P = apart_P if margins_P is None else apart_P - margins_P
    losses_P = -logsigmoid(wanted_P)
    if centring:
        losses_P = losses_P + centring * (chosen_P + rejected_P) ** 2
    reported = {
        "accuracy": (apart_P > 0).to(apart_P),
        "margin": apart_P,
        "mean_reward": (chosen_P + rejected_P) / 2,
    }
    metrics = {name: values_P.detach().sum() for name, values_P in reported.items()}
    return PairTerms({"pairs": losses_P.sum()}, metrics)


def step_terms(logits_SC: Tensor, is_right_S: Tensor) -> PairTerms:
    """Cross-entropy of each step's label (class 1: right), read where the step ends; a sum
    "steps" (arXiv:2305.20050, section 2.6). The metrics are sums over steps.
    """
    labels_S = is_right_S.long()
    total = cross_entropy(logits_SC.float(), labels_S, reduction="sum")
    hits = (logits_SC.argmax(-1) == labels_S).sum()
    return PairTerms({"steps": total}, {"accuracy": hits.to(torch.float32)})
