from __future__ import annotations

import pytest
from transformers import BertConfig, LlamaConfig, ViTConfig

from tests.conformance.tiny import config_of
from tunesmith.errors import ModelError
from tunesmith.models.facts import find_class, read_facts
from tunesmith.models.heads import FINISHED, NOTHING_FOLLOWS


def test_the_facts_of_a_llama():
    facts = read_facts(config_of("Llama"))
    assert facts.class_name == "LlamaForCausalLM"
    assert facts.backbone == "model"
    assert facts.blocks == ("LlamaDecoderLayer",)
    assert (facts.n_layers, facts.hidden, facts.vocab) == (2, 32, 67)
    assert (facts.n_heads, facts.n_kv_heads, facts.head_dim) == (4, 2, 8)
    assert facts.n_experts == 0
    assert facts.max_positions == 128
    assert not facts.tied


def test_the_head_is_read_from_the_config():
    assert read_facts(config_of("Gemma2")).head.finish.cap == 0.5
    assert read_facts(config_of("Gemma2", final_logit_softcapping=None)).head.finish.cap is None
    assert read_facts(config_of("Granite")).head.finish.scale == 1 / 8
    assert read_facts(config_of("Cohere")).head.finish.scale == 0.25
    assert read_facts(config_of("Mixtral")).n_experts == 4


@pytest.mark.parametrize(
    ("family", "why"),
    [
        ("Lfm2", "conv layers"),
        ("Qwen3Next", "linear_attention layers"),
        ("Nemotron", "where documents begin"),
    ],
)
def test_a_layer_that_carries_state_is_named(family, why):
    facts = read_facts(config_of(family))
    assert not facts.isolates
    assert why in facts.isolates_why


def test_an_unknown_head_is_not_guessed_at():
    assert not read_facts(BertConfig(is_decoder=True)).head.known


def test_a_model_that_predicts_no_token_is_an_error():
    with pytest.raises(ModelError, match="not a causal language model"):
        find_class(ViTConfig())
    assert find_class(LlamaConfig()).__name__ == "LlamaForCausalLM"


def test_no_head_is_described_twice():
    assert not NOTHING_FOLLOWS & set(FINISHED)
