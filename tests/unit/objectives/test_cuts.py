"""How the answers of a step are packed, padded and cut must not be seen in loss or gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.unit.objectives.answers import judged, measure, objective, pairs, policy
from tunesmith.patches.patch import applied
from tunesmith.patches.plan import VARLEN


@pytest.fixture(autouse=True)
def varlen():
    with applied([VARLEN]):
        yield


KEYS: list[dict[str, Any]] = [
    {"method": "dpo"},
    {"method": "dpo", "loss_types": ("sigmoid", "sft"), "loss_weights": (1.0, 0.5)},
    {"method": "dpo", "loss_types": ("aot",)},
    {"method": "dpo", "loss_types": ("aot_unpaired",), "reference_free": True},
    {"method": "dpo", "use_weighting": True},
    {"method": "dpo", "tail_weight": 0.3},
    {"method": "dpo", "tail_weight": 0.0, "loss_types": ("sigmoid", "sft")},
    {"method": "ipo"},
    {"method": "orpo"},
    {"method": "simpo"},
    {"method": "kto"},
    {"method": "kto", "kto_loss": "apo_zero_unpaired"},
]


@pytest.mark.parametrize("keys", KEYS, ids=lambda keys: "-".join(map(str, keys.values())))
def test_cuts_of_a_step_give_one_loss_and_one_gradient(keys):
    samples = judged(6) if keys["method"] == "kto" else pairs(4)
    model, made = policy(), objective(**keys)
    loss, gradients, sums = measure(model, made, [samples])
    assert any(gradient.abs().max() > 1e-6 for gradient in gradients)
    halves = [samples[: len(samples) // 2], samples[len(samples) // 2 :]]
    for cuts, pad_to in (
        ([[one] for one in samples], None),
        (halves, None),
        (halves, 200),
        ([samples[:-1], samples[-1:], []], None),
    ):
        again, others, found = measure(model, made, cuts, pad_to)
        assert again == pytest.approx(loss, abs=1e-9)
        for one, other in zip(gradients, others, strict=True):
            torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-7)
        for name, value in sums.metrics.items():
            torch.testing.assert_close(found.metrics[name], value, atol=1e-8, rtol=1e-8)
            assert found.metric_weights[name] == sums.metric_weights[name]


def test_the_order_of_pairs_does_not_matter():
    samples = pairs(4)
    model, made = policy(), objective(method="dpo", loss_types=("aot",))
    loss, gradients, _ = measure(model, made, [samples])
    again, others, _ = measure(model, made, [samples[2:], samples[:2][::-1]])
    assert again == pytest.approx(loss, abs=1e-9)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-7)
