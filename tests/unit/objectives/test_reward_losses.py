"""Bradley-Terry and the labels of steps: their formulas, and TRL's own code."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tests.unit.objectives.compared import bare, gradient
from tunesmith.objectives.reward_losses import reward_terms, step_terms

LINE = torch.linspace(-2, 2, 24).reshape(8, 3)


class Scorer(torch.nn.Module):
    """A reward for every row of numbers, as a sequence classifier gives one."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.score = torch.nn.Linear(3, 1)

    def forward(self, input_ids, **_):
        return SimpleNamespace(logits=self.score(input_ids))


@pytest.mark.parametrize("margins", [None, [0.5, 0.0, 1.5, 3.0]])
@pytest.mark.parametrize("centring", [0.0, 0.05])
def test_rewards_gradients_and_metrics_are_those_of_trl(margins, centring):
    model = Scorer()
    trainer = bare(
        "trainer.reward_trainer.RewardTrainer",
        model=model,
        args=SimpleNamespace(center_rewards_coefficient=centring or None),
    )
    inputs = {"input_ids": LINE, "attention_mask": torch.ones(8, 3)}
    if margins:
        inputs["margin"] = torch.tensor(margins)
    # What it calls a model's inputs goes to the model, margins too.
    loss, grads = gradient(model, trainer.compute_loss(model, inputs))
    chosen, rejected = model(LINE).logits.squeeze(-1).chunk(2)
    wanted = torch.tensor(margins) if margins else None
    terms = reward_terms(chosen, rejected, margins_P=wanted, centring=centring)
    ours, our_grads = gradient(model, terms.sums["pairs"] / 4)
    torch.testing.assert_close(ours, loss, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(our_grads, grads, atol=1e-6, rtol=1e-6)
    told = trainer._metrics["train"]
    for name, value in terms.metrics.items():
        assert float(value) / 4 == pytest.approx(told[name][-1], abs=1e-6)


def test_a_pairs_reward_is_bradley_terrys_log_odds():
    generator = torch.Generator().manual_seed(1)
    chosen, rejected, margins = (
        torch.randn(6, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    better = torch.exp(chosen - margins)
    by_hand = -torch.log(better / (better + torch.exp(rejected))) + 0.1 * (chosen + rejected) ** 2
    ours = reward_terms(chosen, rejected, margins_P=margins, centring=0.1).sums["pairs"]
    torch.testing.assert_close(ours, by_hand.sum(), atol=1e-12, rtol=1e-12)


def test_rewards_that_are_equal_are_no_hit():
    same = torch.zeros(3)
    terms = reward_terms(same, same, margins_P=None, centring=0.0)
    assert float(terms.metrics["accuracy"]) == 0
    assert float(terms.sums["pairs"]) == pytest.approx(3 * 0.6931472)


def test_steps_cost_the_log_prob_of_their_label():
    logits = torch.tensor([[0.3, 1.2], [2.0, -1.0], [0.1, 0.0]], requires_grad=True)
    right = torch.tensor([True, True, False])
    terms = step_terms(logits, right)
    odds = torch.exp(logits)
    shares = odds / odds.sum(-1, keepdim=True)
    by_hand = -torch.log(torch.stack([shares[0, 1], shares[1, 1], shares[2, 0]])).sum()
    torch.testing.assert_close(terms.sums["steps"], by_hand)
    assert float(terms.metrics["accuracy"]) == 2
    (grad,) = torch.autograd.grad(terms.sums["steps"], logits)
    labels = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    torch.testing.assert_close(grad, (shares - labels).detach())
