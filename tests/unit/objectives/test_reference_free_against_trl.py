"""ORPO, CPO and SimPO, which read no reference, and their gradients are those of TRL."""

from __future__ import annotations

import pytest
import torch

from tests.unit.objectives.compared import (
    PAD,
    bare,
    drawn_pairs,
    gradient,
    models,
    padded,
    real_pairs,
    scores_of,
)
from tunesmith.config.objective import ObjectiveSection
from tunesmith.objectives.pair_losses import pair_loss

CASES = {
    "orpo": {"method": "orpo", "odds_weight": 0.2},
    "orpo by beta": {"method": "orpo", "beta": 0.7},
    "simpo": {"method": "simpo", "beta": 2.0, "simpo_margin": 1.4, "cpo_alpha": 0.0},
    "simpo with cross-entropy": {"method": "simpo"},
    "cpo": {"method": "simpo", "cpo_loss": "sigmoid", "cpo_alpha": 0.5},
    "cpo, hinge": {"method": "simpo", "cpo_loss": "hinge"},
    "cpo, ipo": {"method": "simpo", "cpo_loss": "ipo", "beta": 0.3},
}


@pytest.fixture(scope="module")
def policy():
    return models()[0]


def by_trl(policy, pairs, section):
    beta = 0.1 if section.beta is None else section.beta
    if section.method == "orpo":
        name = "experimental.orpo.orpo_trainer.ORPOTrainer"
        numbers = {"beta": section.odds_weight or beta, "padding_value": PAD}
    else:
        name = "experimental.cpo.cpo_trainer.CPOTrainer"
        numbers = {
            "beta": beta,
            "pad_token_id": PAD,
            "loss_type": section.cpo_loss,
            "cpo_alpha": section.cpo_alpha,
            "simpo_gamma": section.simpo_margin,
            "label_smoothing": 0.0,
            "alpha": 0.0,
        }
    batch = {}
    for side in ("chosen", "rejected"):
        rows = [(pair.prompt, getattr(pair, side)) for pair in pairs]
        batch[f"{side}_input_ids"] = padded([[*a, *b] for a, b in rows], PAD)
        batch[f"{side}_attention_mask"] = padded([[1] * len(a + b) for a, b in rows], 0)
        batch[f"{side}_labels"] = padded([[-100] * len(a) + [*b] for a, b in rows], -100)
    loss, metrics = bare(name, **numbers).get_batch_loss_metrics(policy, batch)
    return *gradient(policy, loss), metrics


def by_us(policy, pairs, section):
    loss = pair_loss(section)
    scores = scores_of(policy, policy, pairs, document=loss.tokens == "document")
    terms = loss(scores)
    more = sum(len(pair.prompt) - 1 for pair in pairs) if loss.tokens == "document" else 0
    totals = {"pairs": len(pairs), "tokens": int(scores.chosen_lengths_P.sum()) + more}
    whole = sum(value / totals[name] for name, value in terms.sums.items())
    return *gradient(policy, whole), {n: v / len(pairs) for n, v in terms.metrics.items()}


def assert_equal(policy, pairs, section):
    loss, grads, metrics = by_trl(policy, pairs, section)
    ours, our_grads, our_metrics = by_us(policy, pairs, section)
    torch.testing.assert_close(ours, loss, atol=1e-5, rtol=1e-5)
    assert max(float(grad.abs().max()) for grad in grads.values()) > 1e-4
    torch.testing.assert_close(our_grads, grads, atol=1e-5, rtol=1e-4)
    for name, value in our_metrics.items():
        assert float(value) == pytest.approx(metrics[name], abs=1e-5, rel=1e-5), name


@pytest.mark.parametrize("case", CASES)
def test_losses_gradients_and_metrics_are_equal_on_drawn_pairs(policy, case):
    assert_equal(policy, drawn_pairs(), ObjectiveSection(**CASES[case]))


@pytest.mark.parametrize("case", CASES)
def test_losses_gradients_and_metrics_are_equal_on_real_pairs(policy, reference, case):
    assert_equal(policy, real_pairs(reference), ObjectiveSection(**CASES[case]))
