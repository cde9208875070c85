"""Losses of pairs against their papers' formulas, in float64, and the sums that they are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tunesmith.config.objective import ObjectiveSection
from tunesmith.objectives.dpo_losses import LOSSES, Partners
from tunesmith.objectives.pair_losses import PairScores, pair_loss, partners_of

NAMES = ("chosen_P", "rejected_P", "reference_chosen_P", "reference_rejected_P")


def drawn(count=7, seed=0):
    """Log-probs of pairs, and lengths; the policy's are leaves."""
    random = np.random.default_rng(seed)
    tensors = {name: torch.tensor(-random.uniform(2, 14, count)) for name in NAMES}
    for name in NAMES[:2]:
        tensors[name].requires_grad_()
    lengths = {
        name: torch.tensor(random.integers(3, 30, count))
        for name in ("chosen_lengths_P", "rejected_lengths_P")
    }
    return PairScores(**tensors, **lengths)


def expit(x):
    return 1 / (1 + torch.exp(-x))


def dpo_formula(name, w, l, rw, rl, beta, eps=0.1, tau=0.05):  # noqa: E741
    """The loss of one pair, from the paper: policy and reference log-probs of winner and loser."""
    gw, gl = w - rw, l - rl
    h = gw - gl
    return {
        "sigmoid": lambda: torch.log(1 + torch.exp(-beta * h)),
        "hinge": lambda: torch.clamp(1 - beta * h, min=0),
        "nca_pair": lambda: (
            -torch.log(expit(beta * gw)) - 0.5 * sum(torch.log(expit(-beta * g)) for g in (gw, gl))
        ),
        "robust": lambda: (
            ((1 - eps) * -torch.log(expit(beta * h)) - eps * -torch.log(expit(-beta * h)))
            / (1 - 2 * eps)
        ),
        "exo_pair": lambda: (
            expit(beta * h) * torch.log(expit(beta * h) / (1 - eps))
            + expit(-beta * h) * torch.log(expit(-beta * h) / eps)
        ),
        "bco_pair": lambda: -torch.log(expit(beta * gw)) - torch.log(1 - expit(beta * gl)),
        "sppo_hard": lambda: (gw - 1 / (2 * beta)) ** 2 + (gl + 1 / (2 * beta)) ** 2,
        "apo_zero": lambda: 1 - expit(beta * gw) + expit(beta * gl),
        "apo_down": lambda: expit(beta * gw) + 1 - expit(beta * h),
        "discopop": lambda: (
            expit(beta * h / tau) * torch.exp(-beta * h)
            - (1 - expit(beta * h / tau)) * torch.log(expit(beta * h))
        ),
    }[name]()


def cut(scores, parts):
    """The scores of some of the pairs."""

    def take(value):
        if isinstance(value, Partners):
            return Partners(
                **{f.name: take(getattr(value, f.name)) for f in dataclasses.fields(value)}
            )
        return None if value is None else value[parts]

    return PairScores(**{f.name: take(getattr(scores, f.name)) for f in dataclasses.fields(scores)})


def of(name, **more):
    return pair_loss(ObjectiveSection(method="dpo", loss_types=[name], **more))


def assert_same(ours, by_hand, scores):
    torch.testing.assert_close(ours, by_hand, atol=1e-9, rtol=1e-9)
    leaves = [scores.chosen_P, scores.rejected_P]
    for one, other in zip(
        torch.autograd.grad(ours, leaves, retain_graph=True),
        torch.autograd.grad(by_hand, leaves, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("beta", [0.1, 0.7])
@pytest.mark.parametrize(
    "name",
    [
        *("sigmoid", "hinge", "nca_pair", "robust", "exo_pair", "bco_pair", "sppo_hard"),
        *("apo_zero", "apo_down", "discopop"),
    ],
)
def test_losses_of_dpo_are_their_papers_formulas(name, beta):
    scores = drawn()
    smoothing = 0.1 if name in ("robust", "exo_pair") else 0.0
    ours = of(name, beta=beta, label_smoothing=smoothing)(scores).sums["pairs"]
    logps = [getattr(scores, each) for each in NAMES]
    by_hand = sum(dpo_formula(name, *(each[i] for each in logps), beta) for i in range(7))
    assert_same(ours, by_hand, scores)


@pytest.mark.parametrize("name", ["ipo", "sigmoid_norm"])
def test_losses_a_token_divide_each_answer_by_its_length(name):
    scores, beta = drawn(), 0.3
    section = {"ipo": ObjectiveSection(method="ipo", beta=beta)}.get(
        name, ObjectiveSection(method="dpo", loss_types=[name], beta=beta)
    )
    ours = pair_loss(section)(scores).sums["pairs"]
    h = (scores.chosen_P - scores.reference_chosen_P) / scores.chosen_lengths_P
    h = h - (scores.rejected_P - scores.reference_rejected_P) / scores.rejected_lengths_P
    each = (h - 1 / (2 * beta)) ** 2 if name == "ipo" else torch.log(1 + torch.exp(-beta * h))
    assert_same(ours, each.sum(), scores)


def test_smoothed_labels_make_dpo_conservative():
    scores, beta, share = drawn(), 0.2, 0.25
    ours = of("sigmoid", beta=beta, label_smoothing=share)(scores).sums["pairs"]
    h = scores.log_ratios[0] - scores.log_ratios[1]
    by_hand = -(1 - share) * torch.log(expit(beta * h)) - share * torch.log(expit(-beta * h))
    assert_same(ours, by_hand.sum(), scores)


@pytest.mark.parametrize("name", ["aot", "aot_unpaired"])
def test_sorted_losses_compare_quantiles(name):
    scores, beta = drawn(), 0.2
    ours = of(name, beta=beta)(scores).sums["pairs"]
    left, right = (
        (scores.chosen_P - scores.rejected_P, scores.reference_margin_P)
        if name == "aot"
        else scores.log_ratios
    )
    by_hand = torch.log(1 + torch.exp(-beta * (left.sort().values - right.sort().values))).sum()
    assert_same(ours, by_hand, scores)


@pytest.mark.parametrize("kind", ["forward_kl", "js", "alpha"])
def test_a_divergence_gives_the_reward_by_its_derivative(kind):
    """The derivative is taken numerically of f, the generator that defines the divergence."""
    scores, beta, alpha = drawn(), 0.4, 0.6

    def f(u):
        return {
            "forward_kl": -np.log(u) + u - 1,
            "js": u * np.log(u) - (u + 1) * np.log((u + 1) / 2),
            "alpha": (u**alpha - 1 - alpha * (u - 1)) / (alpha * (alpha - 1)),
        }[kind]

    def slope(log_ratio):
        u = torch.exp(log_ratio).numpy().astype(np.longdouble)
        step = u * np.longdouble(1e-6)
        return torch.tensor(((f(u + step) - f(u - step)) / (2 * step)).astype(float))

    with torch.no_grad():
        small = dataclasses.replace(scores, **{n: getattr(scores, n) / 20 for n in (*NAMES,)})
        loss = of("sigmoid", beta=beta, divergence=kind, divergence_alpha=alpha)
        ours = loss(small).sums["pairs"]
        chosen, rejected = (slope(each) for each in small.log_ratios)
        by_hand = torch.log(1 + torch.exp(-beta * (chosen - rejected))).sum()
    torch.testing.assert_close(ours, by_hand, atol=1e-6, rtol=1e-6)


def test_without_a_reference_the_policy_is_compared_with_itself():
    scores = drawn()
    loss = of("sigmoid", beta=0.1, reference_free=True)
    assert not loss.reads_reference
    alone = dataclasses.replace(scores, reference_chosen_P=None, reference_rejected_P=None)
    by_hand = torch.log(1 + torch.exp(-0.1 * (scores.chosen_P - scores.rejected_P))).sum()
    assert_same(loss(alone).sums["pairs"], by_hand, scores)


def test_orpo_is_cross_entropy_and_the_odds_ratio():
    scores, weight = drawn(), 0.3
    text = scores.chosen_P * 1.5
    terms = pair_loss(ObjectiveSection(method="orpo", odds_weight=weight))(
        dataclasses.replace(scores, chosen_text_P=text)
    )
    better = torch.exp(scores.chosen_P / scores.chosen_lengths_P)
    worse = torch.exp(scores.rejected_P / scores.rejected_lengths_P)
    odds = (better / (1 - better)) / (worse / (1 - worse))
    assert_same(terms.sums["pairs"], -weight * torch.log(odds / (1 + odds)).sum(), scores)
    torch.testing.assert_close(terms.sums["tokens"], -text.sum())


@pytest.mark.parametrize("kind", ["simpo", "sigmoid", "hinge", "ipo"])
def test_cpo_and_simpo_are_their_papers_formulas(kind):
    scores, beta, gamma = drawn(), 2.0, 0.7
    terms = pair_loss(
        ObjectiveSection(
            method="simpo", beta=beta, simpo_margin=gamma, cpo_loss=kind, cpo_alpha=0.5
        )
    )(scores)
    w, l = scores.chosen_P, scores.rejected_P  # noqa: E741
    a, b = w / scores.chosen_lengths_P, l / scores.rejected_lengths_P
    by_hand = {
        "simpo": torch.log(1 + torch.exp(-(beta * a - beta * b - gamma))),
        "sigmoid": torch.log(1 + torch.exp(-beta * (w - l))),
        "hinge": torch.clamp(1 - beta * (w - l), min=0),
        "ipo": (a - b - 1 / (2 * beta)) ** 2,
    }[kind]
    assert_same(terms.sums["pairs"], by_hand.sum(), scores)
    torch.testing.assert_close(terms.sums["tokens"], -0.5 * w.sum())


def test_cpo_alpha_0_leaves_the_cross_entropy_out():
    loss = pair_loss(ObjectiveSection(method="simpo", cpo_alpha=0.0))
    assert loss.tokens == "none"
    assert loss(drawn()).sums.keys() == {"pairs"}


@pytest.mark.parametrize("name", ["sigmoid", "ipo", "aot", "aot_unpaired"])
def test_a_steps_pairs_can_be_cut_into_batches_anywhere(name):
    scores = drawn()
    loss = of(name, beta=0.2, label_smoothing=0.0)
    whole = loss(scores).sums["pairs"]
    if loss.is_sorted:
        scores = dataclasses.replace(scores, partners=partners_of(scores))
    apart = sum(loss(cut(scores, part)).sums["pairs"] for part in (slice(0, 2), slice(2, 7)))
    assert_same(apart, whole, scores)


def test_at_the_reference_a_pair_costs_ln_2_and_every_margin_is_0():
    scores = drawn()
    at = dataclasses.replace(
        scores,
        reference_chosen_P=scores.chosen_P.detach(),
        reference_rejected_P=scores.rejected_P.detach(),
    )
    terms = of("sigmoid")(at)
    assert float(terms.sums["pairs"].detach()) == pytest.approx(7 * np.log(2), rel=1e-12)
    assert float(terms.metrics["rewards/margins"]) == 0
    assert float(terms.metrics["rewards/accuracies"]) == 0


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "reverse_kl") for name in sorted(LOSSES)),
        *(
            (name, kind)
            for name in ("sigmoid", "exo_pair", "robust", "discopop")
            for kind in ("forward_kl", "js", "alpha")
        ),
    ],
)
def test_ratios_beyond_float32s_exponents_stay_finite(name, kind):
    scores = PairScores(
        chosen_P=torch.tensor([-1.0, -3000.0], requires_grad=True),
        rejected_P=torch.tensor([-3000.0, -1.0], requires_grad=True),
        chosen_lengths_P=torch.tensor([9, 9]),
        rejected_lengths_P=torch.tensor([9, 9]),
        reference_chosen_P=torch.tensor([-1500.0, -1500.0]),
        reference_rejected_P=torch.tensor([-1500.0, -1500.0]),
    )
    value = of(name, label_smoothing=1e-3, divergence=kind, divergence_alpha=0.5)(scores)
    value.sums["pairs"].backward()
    for each in (value.sums["pairs"], scores.chosen_P.grad, scores.rejected_P.grad):
        assert torch.isfinite(each).all()


def test_certain_answers_have_odds_that_stay_finite():
    scores = PairScores(
        chosen_P=torch.tensor([-1e-9, -900.0], requires_grad=True),
        rejected_P=torch.tensor([-900.0, -0.0], requires_grad=True),
        chosen_lengths_P=torch.tensor([3, 3]),
        rejected_lengths_P=torch.tensor([3, 3]),
        chosen_text_P=torch.tensor([-1.0, -2.0]),
    )
    total = pair_loss(ObjectiveSection(method="orpo"))(scores).sums["pairs"]
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(scores.chosen_P.grad).all()
    assert torch.isfinite(scores.rejected_P.grad).all()


def test_what_compares_no_pairs_is_refused():
    with pytest.raises(ValueError, match="compares no pairs"):
        pair_loss(ObjectiveSection(method="kto"))
