"""DPO's losses and their gradients are those of TRL, for one batch."""

from __future__ import annotations

from types import SimpleNamespace

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
    with_fused_head,
)
from tunesmith.config.objective import ObjectiveSection
from tunesmith.objectives.pair_losses import pair_loss

# TRL still asks models by the old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

CASES = {
    **{
        name: {"loss_types": [name]}
        for name in (
            *("sigmoid", "hinge", "ipo", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot"),
            *("aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm"),
        )
    },
    "exo_pair": {"loss_types": ["exo_pair"], "label_smoothing": 1e-3},
    "robust, smoothed": {"loss_types": ["robust"], "label_smoothing": 0.2},
    "aot, smoothed": {"loss_types": ["aot"], "label_smoothing": 0.3},
    "aot_unpaired, smoothed": {"loss_types": ["aot_unpaired"], "label_smoothing": 0.3},
    "discopop, warmer": {"loss_types": ["discopop"], "temperature": 0.4},
    "weighted": {"loss_types": ["sigmoid", "bco_pair"], "use_weighting": True},
    "equally long": {"tail_weight": 0.0},
    "shorter tails": {"tail_weight": 0.4, "loss_types": ["sigmoid", "sft"]},
    "forward": {"divergence": "forward_kl"},
    "js": {"divergence": "js", "loss_types": ["hinge"]},
    "alpha": {"divergence": "alpha", "divergence_alpha": 0.8, "loss_types": ["ipo"]},
    "alpha 1": {"divergence": "alpha", "divergence_alpha": 1.0},
    "mixed": {"loss_types": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.5]},
    "steep": {"beta": 3.0, "loss_types": ["sigmoid", "nca_pair"]},
}

DIVERGENCES = {"js": "js_divergence", "alpha": "alpha_divergence"}


@pytest.fixture(scope="module")
def both():
    policy, reference = models()
    return policy, reference, with_fused_head(policy), with_fused_head(reference)


def by_trl(both, pairs, section, beta):
    """The loss by TRL, its gradient, and what it reports."""
    _, _, policy, reference = both
    trainer = bare(
        "trainer.dpo_trainer.DPOTrainer",
        model=policy,
        ref_model=reference,
        beta=beta,
        loss_types=list(section.loss_types),
        loss_weights=list(section.loss_weights or [1.0] * len(section.loss_types)),
        label_smoothing=section.label_smoothing,
        use_weighting=section.use_weighting,
        f_divergence_type=DIVERGENCES.get(section.divergence, section.divergence),
        f_alpha_divergence_coef=section.divergence_alpha,
        ld_alpha=None if section.tail_weight == 1 else section.tail_weight,
        precompute_ref_logps=False,
        args=SimpleNamespace(
            discopop_tau=section.temperature,
            gradient_checkpointing_kwargs=None,
            gradient_checkpointing=False,
        ),
    )
    rows = [(p.prompt, p.chosen) for p in pairs] + [(p.prompt, p.rejected) for p in pairs]
    inputs = {
        "input_ids": padded([[*a, *b] for a, b in rows], PAD),
        "attention_mask": padded([[1] * len(a + b) for a, b in rows], 0),
        "completion_mask": padded([[0] * len(a) + [1] * len(b) for a, b in rows], 0),
    }
    loss = trainer._compute_loss(policy, inputs, return_outputs=False)
    return *gradient(policy, loss), trainer._metrics["eval"]


def by_us(both, pairs, section):
    policy, reference, *_ = both
    loss = pair_loss(section)
    scores = scores_of(policy, reference, pairs, section.tail_weight, likelihoods=loss.is_weighted)
    terms = loss(scores)
    totals = {"pairs": len(pairs), "tokens": int(scores.chosen_lengths_P.sum())}
    whole = sum(value / totals[name] for name, value in terms.sums.items())
    return *gradient(policy, whole), {n: v / len(pairs) for n, v in terms.metrics.items()}


def assert_equal(both, pairs, section):
    beta = 0.1 if section.beta is None else section.beta
    loss, grads, metrics = by_trl(both, pairs, section, beta)
    ours, our_grads, our_metrics = by_us(both, pairs, section)
    torch.testing.assert_close(ours, loss, atol=1e-5, rtol=1e-5)
    largest = max(float(grad.abs().max()) for grad in grads.values())
    assert largest > 1e-4
    torch.testing.assert_close(our_grads, grads, atol=1e-5 * max(largest, 1), rtol=1e-4)
    for name, value in our_metrics.items():
        assert float(value) == pytest.approx(metrics[name][-1], abs=2e-4, rel=1e-5), name


@pytest.mark.parametrize("case", CASES)
def test_losses_gradients_and_metrics_are_equal_on_drawn_pairs(both, case):
    assert_equal(both, drawn_pairs(), ObjectiveSection(method="dpo", **CASES[case]))


@pytest.mark.parametrize("case", CASES)
def test_losses_gradients_and_metrics_are_equal_on_real_pairs(both, reference, case):
    assert_equal(both, real_pairs(reference), ObjectiveSection(method="dpo", **CASES[case]))
