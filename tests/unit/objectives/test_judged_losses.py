"""KTO and unpaired APO: their papers' formulas, TRL's own code, and the sums that they are."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.unit.objectives.compared import (
    PAD,
    answer_logps,
    bare,
    drawn_pairs,
    gradient,
    models,
    padded,
    real_pairs,
    with_fused_head,
)
from tunesmith.config.objective import ObjectiveSection
from tunesmith.objectives.judged_losses import JudgedScores, divergence_of, judged_loss

# TRL still asks models by the old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

CASES = {
    "kto": {},
    "weighted": {"desirable_weight": 1.3, "undesirable_weight": 0.4, "beta": 0.3},
    "only good ones count": {"undesirable_weight": 0.0},
    "apo": {"kto_loss": "apo_zero_unpaired", "beta": 0.2},
}


def section_of(case):
    return ObjectiveSection(method="kto", **CASES[case])


@pytest.fixture(scope="module")
def both():
    policy, reference = models()
    # So that the estimate of the divergence is not clamped.
    policy, reference = reference.requires_grad_(), policy.requires_grad_(False)
    return policy, reference, with_fused_head(policy), with_fused_head(reference)


def judged(pairs):
    """(prompt, answer, is it good) of one side of each pair, good and bad by turns."""
    return [
        (pair.prompt, pair.chosen if i % 3 else pair.rejected, bool(i % 3))
        for i, pair in enumerate(pairs)
    ]


def strangers(rows):
    """Each prompt with the answer of the row before it."""
    return [(row[0], rows[i - 1][1]) for i, row in enumerate(rows)]


def sums(model, rows):
    return torch.stack([answer_logps(model, row[0], row[1])[0].sum() for row in rows])


def inputs_of(rows, prefix=""):
    return {
        f"{prefix}input_ids": padded([[*a, *b] for a, b, *_ in rows], PAD),
        f"{prefix}attention_mask": padded([[1] * len(a + b) for a, b, *_ in rows], 0),
        f"{prefix}completion_mask": padded([[0] * len(a) + [1] * len(b) for a, b, *_ in rows], 0),
    }


def by_trl(both, rows, section):
    _, _, policy, reference = both
    trainer = bare(
        "trainer.kto_trainer.KTOTrainer",
        model=policy,
        ref_model=reference,
        beta=0.1 if section.beta is None else section.beta,
        loss_type=section.kto_loss,
        calculate_KL=section.kto_loss == "kto",
        desirable_weight=section.desirable_weight,
        undesirable_weight=section.undesirable_weight,
        precompute_ref_logps=False,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
    )
    inputs = {
        **inputs_of(rows),
        **inputs_of(strangers(rows), "KL_"),
        "label": torch.tensor([row[2] for row in rows]),
    }
    loss = trainer._compute_loss(policy, inputs, return_outputs=False)
    return *gradient(policy, loss), trainer._metrics["eval"]


def by_us(both, rows, section):
    policy, reference, *_ = both
    with torch.no_grad():
        apart = sums(policy, strangers(rows)) - sums(reference, strangers(rows))
        held = sums(reference, rows)
    scores = JudgedScores(sums(policy, rows), held, torch.tensor([row[2] for row in rows]))
    terms = judged_loss(section)(scores, divergence_of(apart))
    return *gradient(policy, terms.sums["answers"] / len(rows)), terms.metrics


def assert_equal(both, rows, section):
    loss, grads, metrics = by_trl(both, rows, section)
    ours, our_grads, our_metrics = by_us(both, rows, section)
    torch.testing.assert_close(ours, loss, atol=1e-5, rtol=1e-5)
    assert max(float(grad.abs().max()) for grad in grads.values()) > 1e-4
    torch.testing.assert_close(our_grads, grads, atol=1e-5, rtol=1e-4)
    for name, (total, count) in our_metrics.items():
        assert float(total / count) == pytest.approx(metrics[name][-1], abs=2e-4, rel=1e-5), name


@pytest.mark.parametrize("case", CASES)
def test_losses_gradients_and_metrics_are_those_of_trl_on_drawn_answers(both, case):
    assert_equal(both, judged(drawn_pairs(7)), section_of(case))


@pytest.mark.parametrize("case", CASES)
def test_losses_gradients_and_metrics_are_those_of_trl_on_real_answers(both, reference, case):
    assert_equal(both, judged(real_pairs(reference)), section_of(case))


def drawn_scores(count=9):
    random = np.random.default_rng(3)
    return JudgedScores(
        torch.tensor(-random.uniform(2, 20, count), requires_grad=True),
        torch.tensor(-random.uniform(2, 20, count)),
        torch.tensor(random.random(count) < 0.6),
    )


def by_hand(scores, beta, anchor, good, bad):
    """KTO's value function, one answer at a time."""
    total = 0.0
    for logp, held, is_good in zip(
        scores.logps_A, scores.reference_A, scores.is_good_A.tolist(), strict=True
    ):
        reward = logp - held
        if is_good:
            total = total + good * (1 - 1 / (1 + torch.exp(-beta * (reward - anchor))))
        else:
            total = total + bad * (1 - 1 / (1 + torch.exp(-beta * (anchor - reward))))
    return total


@pytest.mark.parametrize("kind", ["kto", "apo_zero_unpaired"])
def test_each_answer_costs_what_the_papers_value_function_says(kind):
    scores, anchor = drawn_scores(), torch.tensor(0.8, dtype=torch.float64)
    section = ObjectiveSection(
        method="kto", beta=0.3, kto_loss=kind, desirable_weight=1.2, undesirable_weight=0.7
    )
    loss = judged_loss(section)
    assert loss.reads_divergence == (kind == "kto")
    ours = loss(scores, anchor).sums["answers"]
    paper = by_hand(scores, 0.3, 0.8 if kind == "kto" else 0.0, 1.2, 0.7)
    torch.testing.assert_close(ours, paper, atol=1e-9, rtol=1e-9)
    (one,) = torch.autograd.grad(ours, scores.logps_A)
    (other,) = torch.autograd.grad(paper, scores.logps_A)
    torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


def test_a_steps_answers_can_be_cut_into_batches_anywhere():
    scores, anchor = drawn_scores(), torch.tensor(0.4, dtype=torch.float64)
    loss = judged_loss(section_of("weighted"))
    parts = [
        JudgedScores(scores.logps_A[cut], scores.reference_A[cut], scores.is_good_A[cut])
        for cut in (slice(0, 4), slice(4, 9))
    ]
    whole = loss(scores, anchor)
    apart = [loss(part, anchor) for part in parts]
    total = sum(terms.sums["answers"] for terms in apart)
    torch.testing.assert_close(total, whole.sums["answers"])
    for name, (_, count) in whole.metrics.items():
        assert sum(float(terms.metrics[name][1]) for terms in apart) == float(count)


def test_at_the_reference_an_answer_costs_a_half():
    scores = drawn_scores()
    at = JudgedScores(scores.logps_A, scores.logps_A.detach(), scores.is_good_A)
    apart = divergence_of(at.logps_A - at.reference_A)
    assert float(apart) == 0
    assert float(judged_loss(section_of("kto"))(at, apart).sums["answers"].detach()) == 4.5


def test_a_divergence_is_never_negative_and_has_no_gradient():
    log_ratios = torch.tensor([-3.0, 1.0], requires_grad=True)
    assert float(divergence_of(log_ratios)) == 0
    found = divergence_of(-log_ratios)
    assert (float(found), found.requires_grad) == (1.0, False)


def test_another_method_is_refused():
    with pytest.raises(ValueError, match="judges no single answers"):
        judged_loss(ObjectiveSection(method="dpo"))
