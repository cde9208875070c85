from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests.unit.export.parts import byte_tokenizer, make_base, make_policy
from tunesmith.errors import ExitCode, RunError
from tunesmith.export.compare import (
    TEXTS,
    largest_gap,
    make_prompts,
    plain_logits,
    policy_logits,
    require_different,
    require_same,
    spread,
    tolerance,
)


def test_prompts_are_the_eight_texts():
    prompts = make_prompts(byte_tokenizer())
    assert len(prompts) == 8
    assert [byte_tokenizer().decode(ids) for ids in prompts] == list(TEXTS)


def test_the_policys_logits_are_the_models(tmp_path):
    policy, _ = make_policy(make_base(tmp_path), adapter=None)
    prompts = make_prompts(byte_tokenizer())
    ours, theirs = policy_logits(policy, prompts), plain_logits(policy.model, prompts)
    assert [part.shape for part in ours] == [(len(ids), 259) for ids in prompts]
    assert largest_gap(ours, theirs) < 1e-5


def test_the_gap_is_the_largest_anywhere():
    first = [torch.zeros(2, 3), torch.zeros(4, 3)]
    second = [torch.zeros(2, 3), torch.zeros(4, 3)]
    second[1][3, 2] = -0.5
    assert largest_gap(first, second) == 0.5
    second[0][0, 0] = math.nan
    assert math.isnan(largest_gap(first, second))


@pytest.mark.parametrize("gap", [2e-4, math.nan, math.inf])
def test_a_gap_that_rounding_does_not_explain_is_refused(gap):
    first, second = [torch.zeros(2, 3)], [torch.zeros(2, 3) + gap]
    with pytest.raises(RunError) as caught:
        require_same(first, second, torch.float32, Path("out"))
    assert caught.value.exit_code == ExitCode.DAMAGED


def test_what_full_precision_explains_grows_with_large_logits():
    assert tolerance(torch.float32, [torch.full((1, 2), 2.0)]) == 1e-4
    assert tolerance(torch.float32, [torch.full((1, 2), -40.0)]) == pytest.approx(4e-4)


def test_half_precision_is_judged_by_the_typical_gap():
    logits = [torch.tensor([[18.0, 22.0], [-2.0, 2.0]])]
    assert spread(logits) == pytest.approx(2.0)
    assert tolerance(torch.bfloat16, logits) == pytest.approx(0.1)
    other = [logits[0].clone()]
    other[0][0, 0] += 0.18
    assert require_same(logits, other, torch.bfloat16, Path("out")) == pytest.approx(0.09, rel=1e-4)
    other[0][0, 0] += 0.1
    with pytest.raises(RunError, match="bfloat16"):
        require_same(logits, other, torch.bfloat16, Path("out"))


def test_no_gap_to_the_base_is_refused():
    logits = [torch.ones(2, 3)]
    with pytest.raises(RunError, match="nothing was learned: it equals"):
        require_different(logits, logits, Path("out"), "it")
    assert require_different(logits, [logits[0] + 1], Path("out"), "it") == 1.0


def test_logits_are_compared_without_tf32():
    """On a GPU, TensorFloat-32 moves logits by more than the fp32 limit (2e-3 on an H100)."""
    seen = []

    class Model(torch.nn.Linear):
        def forward(self, input_ids):
            seen.append(torch.get_float32_matmul_precision())
            return type("Output", (), {"logits": torch.zeros(1, input_ids.shape[1], 3)})

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        plain_logits(Model(1, 1), [[1, 2]])
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == ["highest"]
