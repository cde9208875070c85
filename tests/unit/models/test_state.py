"""Saved names and values against the model's own: what is fused in memory comes apart and back."""

from __future__ import annotations

import pytest
import torch

from tests.conformance.tiny import build, policy_of
from tunesmith.errors import ExitCode, RunError
from tunesmith.models.state import fill_model, full_state, saved_tensors, trainable_state

FUSED = ("Mixtral", "DeepseekV3", "Qwen3Next")
"""Families whose experts the files hold one by one, and memory in one tensor."""


def two(family):
    """The policies of two models of one family with other values."""
    return [policy_of(build(family, attention="eager", seed=seed)) for seed in (1, 2)]


@pytest.mark.parametrize("family", ["Llama", "GptOss", "Lfm2", *FUSED])
def test_a_model_filled_with_anothers_saved_weights_equals_it(family):
    one, other = two(family)
    fill_model(other, [(name, value.clone()) for name, value in full_state(one).items()])
    values = other.model.state_dict()
    for name, value in one.model.state_dict().items():
        assert torch.equal(values[name], value), name


@pytest.mark.parametrize("family", ["Llama", *FUSED])
def test_what_trains_is_saved_under_the_names_of_the_files(family):
    policy, _ = two(family)
    whole = full_state(policy)
    saved = saved_tensors(policy, trainable_state(policy))
    assert set(saved) <= set(whole)
    assert all(torch.equal(value, whole[name]) for name, value in saved.items())
    buffers = {name for name, _ in policy.model.named_buffers()}
    assert set(whole) - set(saved) <= buffers


@pytest.mark.parametrize("change", ["missing", "unknown", "cut"])
def test_a_part_of_an_expert_that_does_not_fit_is_named(change):
    one, other = two("Mixtral")
    tensors = full_state(one)
    name = "model.layers.0.block_sparse_moe.experts.1.w3.weight"
    part = tensors.pop(name)
    if change == "unknown":
        tensors[f"{name}_"] = part
    if change == "cut":
        tensors[name] = part[:-1]
    with pytest.raises(RunError) as caught:
        fill_model(other, tensors.items())
    assert caught.value.exit_code == ExitCode.DAMAGED
    assert name in caught.value.message
