"""The planner: what it expects against what was measured, and what it chooses."""

from __future__ import annotations

import pytest
from transformers import LlamaConfig, Qwen3Config

from tunesmith.config.environment import named_machine
from tunesmith.config.read import load
from tunesmith.models.facts import read_facts
from tunesmith.models.footprint import count_parameters, footprint
from tunesmith.runs.memory import GIB, Layout, choose_recompute, workload

LLAMA_8B = LlamaConfig(
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
    tie_word_embeddings=False,
    architectures=["LlamaForCausalLM"],
)
QWEN_06B = Qwen3Config(
    vocab_size=151936,
    hidden_size=1024,
    intermediate_size=3072,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    tie_word_embeddings=True,
    architectures=["Qwen3ForCausalLM"],
)
FULL: dict[str, object] = {}
LORA = {"adapter": "lora", "lora_r": 16, "lora_target_linear": True}


def config(**keys):
    fixed = {
        "base_model": "m",
        "datasets": [{"path": "r.jsonl", "type": "alpaca"}],
        "learning_rate": 1e-4,
        "sample_packing": True,
        "micro_batch_size": 1,
    }
    return load(fixed | keys).config


def layout(tokens, *, weights="bfloat16", accumulation=1, compiled=True):
    return Layout(tokens, "bfloat16", weights, accumulation, compiled)


def choose(model, machine, tokens, keys, **changes):
    shape = read_facts(model)
    return choose_recompute(
        config(**keys), named_machine(machine), shape, layout(tokens, **changes)
    )


def test_parameters_are_counted_exactly():
    assert count_parameters(read_facts(LLAMA_8B)) == 8_030_261_248
    # The norms of queries and keys, 128 each a layer, are the ones that are left out.
    assert count_parameters(read_facts(QWEN_06B)) == 596_049_920 - 28 * 256


@pytest.mark.parametrize(
    ("model", "tokens", "keys", "recomputed", "measured_gib"),
    [
        # A hand-written decoder of these shapes on one H200, compiled, bf16 moments.
        (LLAMA_8B, 8192, FULL, 0, 82.1),
        (LLAMA_8B, 16384, FULL, 0, 116.3),
        (LLAMA_8B, 8192, FULL, 32, 60.2),
        (QWEN_06B, 32768, FULL, 0, 46.6),
    ],
)
def test_the_expected_peak_is_within_a_tenth_of_a_measured_one(
    model, tokens, keys, recomputed, measured_gib
):
    price = footprint(read_facts(model), workload(config(**keys), layout(tokens)))
    assert price.peak(recomputed) / GIB == pytest.approx(measured_gib, rel=0.1)


@pytest.mark.parametrize(
    ("machine", "tokens", "keys", "low", "high"),
    [
        ("h200", 8192, FULL, 0, 0),
        ("h200", 16384, LORA, 0, 0),
        ("h100", 8192, LORA, 0, 0),
        ("h100", 8192, FULL, 8, 31),
        ("h200", 32768, FULL, 8, 31),
        ("rtx4090", 8192, LORA, 1, 32),
    ],
)
def test_as_few_blocks_recompute_as_memory_allows(machine, tokens, keys, low, high):
    choice = choose(LLAMA_8B, machine, tokens, keys)
    assert low <= choice.value <= high, choice.reason
    assert "GiB" in choice.reason


def test_one_block_less_would_not_have_fitted():
    shape = read_facts(LLAMA_8B)
    price = footprint(shape, workload(config(), layout(32768)))
    n = choose(LLAMA_8B, "h200", 32768, FULL).value
    memory = named_machine("h200").memory_bytes
    assert price.peak(n) < memory * 0.94 < price.peak(n - 1) + GIB


@pytest.mark.parametrize(("asked", "expected"), [(True, 32), (False, 0)])
def test_what_the_user_set_is_obeyed(asked, expected):
    for machine in ("h100", "cpu"):
        choice = choose(LLAMA_8B, machine, 8192, {"gradient_checkpointing": asked})
        assert choice.value == expected
        assert "as asked" in choice.reason


def test_what_cannot_fit_is_told():
    choice = choose(LLAMA_8B, "rtx4090", 8192, FULL)
    assert choice.value == 32
    assert "may not fit" in choice.reason


def test_a_cpu_keeps_everything():
    assert choose(LLAMA_8B, "cpu", 8192, FULL).value == 0


def test_accumulating_in_fp32_and_wide_weights_cost_memory():
    shape = read_facts(LLAMA_8B)

    def peak(**changes):
        return footprint(shape, workload(config(), layout(8192, **changes))).peak(32)

    n = count_parameters(shape)
    assert peak(accumulation=4) - peak() == 4 * n
    # Masters, two moments and gradients of 4 bytes in place of 2, and the casts of a forward pass.
    assert peak(weights="float32") - peak() == pytest.approx((2 + 4 + 2 + 2) * n, rel=0.01)
