"""Distillation: the divergences' definitions, TRL's own code, and what is known of few tokens."""

from __future__ import annotations

import pytest
import torch

from tests.unit.objectives.compared import trl
from tunesmith.objectives.distill_losses import divergence_sum, scaled_teacher, student_at

VOCAB, POSITIONS = 11, 5


def drawn(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(POSITIONS, VOCAB, generator=generator, dtype=dtype) * 2
    teacher = torch.randn(POSITIONS, VOCAB, generator=generator, dtype=dtype) * 2
    return student.requires_grad_(), teacher


def whole(logits):
    return torch.arange(VOCAB).expand(len(logits), -1)


@pytest.mark.parametrize("mix", [0, 0.3, 0.5, 1])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_with_all_tokens_it_is_the_generalised_divergence_of_trl(mix, temperature):
    student, teacher = drawn()
    theirs = trl("experimental.gkd.gkd_trainer.GKDTrainer").generalized_jsd_loss(
        student, teacher, beta=mix, temperature=temperature, reduction="sum"
    )
    logps = scaled_teacher(
        teacher.log_softmax(-1), measured_at=1.0, temperature=temperature, normalized=False
    )
    ours = divergence_sum(
        student_at(student, whole(student), temperature), logps, torch.ones(POSITIONS), mix=mix
    )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    (one,) = torch.autograd.grad(ours, student)
    (other,) = torch.autograd.grad(theirs, student)
    assert float(other.abs().max()) > 1e-2
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mix", [0, 0.25, 1])
def test_a_few_tokens_count_as_their_definition_says(mix):
    """The sums are written out over the named tokens, in float64."""
    student, teacher = drawn(torch.float64)
    logps, ids = teacher.log_softmax(-1).topk(4)
    weights = torch.tensor([1.0, 0.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    ours = divergence_sum(student.log_softmax(-1).gather(-1, ids), logps, weights, mix=mix)
    by_hand = 0.0
    for row in range(POSITIONS):
        for place, token in enumerate(ids[row].tolist()):
            p, q = logps[row, place].exp(), torch.softmax(student[row], -1)[token]
            middle = (1 - mix) * q + mix * p
            by_hand = by_hand + weights[row] * {
                0: p * torch.log(p / q),
                1: q * torch.log(q / p),
            }.get(mix, mix * p * torch.log(p / middle) + (1 - mix) * q * torch.log(q / middle))
    torch.testing.assert_close(ours, by_hand, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("mix", [0, 0.5, 1])
def test_places_without_a_token_count_nothing_and_have_no_gradient(mix):
    student, teacher = drawn()
    logps, ids = teacher.log_softmax(-1).topk(4)
    holes = logps.clone()
    holes[:, 2:] = -torch.inf
    ones = torch.ones(POSITIONS)
    found = divergence_sum(student_at(student, ids, 1.0), holes, ones, mix=mix)
    without = divergence_sum(student_at(student, ids[:, :2], 1.0), logps[:, :2], ones, mix=mix)
    torch.testing.assert_close(found, without)
    (one,) = torch.autograd.grad(found, student)
    (other,) = torch.autograd.grad(without, student)
    torch.testing.assert_close(one, other)


def test_a_student_that_is_the_teacher_costs_nothing():
    student, _ = drawn()
    logps = student.detach().log_softmax(-1)
    for mix in (0, 0.5, 1):
        same = divergence_sum(
            student_at(student, whole(student), 1.0), logps, torch.ones(POSITIONS), mix=mix
        )
        assert float(same.detach()) == pytest.approx(0, abs=1e-5)


def test_a_teachers_log_probs_are_taken_to_another_temperature():
    _, teacher = drawn()
    measured, ids = (teacher / 2).log_softmax(-1).topk(VOCAB)
    taken = scaled_teacher(measured, measured_at=2.0, temperature=0.5, normalized=False)
    torch.testing.assert_close(taken, (teacher / 0.5).log_softmax(-1).gather(-1, ids))


def test_of_a_few_tokens_normalised_ones_share_all_of_the_probability():
    _, teacher = drawn()
    logps, _ = teacher.log_softmax(-1).topk(3)
    as_given = scaled_teacher(logps, measured_at=1.0, temperature=1.0, normalized=False)
    torch.testing.assert_close(as_given, logps)
    shared = scaled_teacher(logps, measured_at=1.0, temperature=1.0, normalized=True)
    torch.testing.assert_close(shared.exp().sum(-1), torch.ones(POSITIONS))
    torch.testing.assert_close(shared[:, 0] - shared[:, 1], logps[:, 0] - logps[:, 1])
