"""Groups: decayed and not decayed exactly as transformers' Trainer decides."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Trainer,
)

from tunesmith.config.optim import OptimSection
from tunesmith.errors import ModelError
from tunesmith.optim.groups import build_groups

SIZES = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


class OddNames(nn.Module):
    """Names that the rule must tell apart."""

    def __init__(self):
        super().__init__()
        for name in (
            "norm",
            "q_norm",
            "prenorm",
            "normaliser",
            "norm_out",
            "LayerNorm_1",
            "RMSNorm",
        ):
            self.add_module(name, nn.Linear(2, 2))
        self.relative_bias_table = nn.Embedding(2, 2)
        self.ln = nn.LayerNorm(2)
        self.inner = nn.ModuleDict({"norm": nn.Linear(2, 2), "plain": nn.Linear(2, 2)})
        self.norm_scale = nn.Parameter(torch.ones(2))
        self.out_norm = nn.Parameter(torch.ones(2))


def llama():
    return LlamaForCausalLM(LlamaConfig(**SIZES, attention_bias=True, tie_word_embeddings=True))


def lora():
    model = LlamaForCausalLM(LlamaConfig(**SIZES, attention_bias=True))
    config = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], bias="all")
    return inject_adapter_in_model(config, model)


MODELS = {
    "llama": llama,
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=16, n_layer=2, n_head=2)),
    "lora": lora,
    "odd": OddNames,
}


@pytest.mark.parametrize("name", MODELS)
def test_decay_is_that_of_transformers(name):
    model = MODELS[name]()
    theirs = set(Trainer.get_decay_parameter_names(None, model))
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    section = OptimSection(learning_rate=0.5, weight_decay=0.1)
    groups = {group.name: group for group in build_groups(model, section)}
    tables = set(groups["embeddings"].parameters) if "embeddings" in groups else set()
    assert set(groups["decayed"].parameters) | tables == theirs & trained
    assert {group.name for group in groups.values() if group.is_embedding} <= {"embeddings"}
    found = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    assert tables == {n for n, p in model.named_parameters() if id(p) in found} & theirs & trained
    plain = set(groups["plain"].parameters) if "plain" in groups else set()
    assert plain == trained - theirs
    assert plain, "the case shows nothing"
    decays = {name: group.weight_decay for name, group in groups.items()}
    assert decays | {"embeddings": 0.1} == {"decayed": 0.1, "embeddings": 0.1, "plain": 0.0}
    assert {group.rate for group in groups.values()} == {0.5}


def test_a_wrapper_around_the_model_changes_nothing():
    model = MODELS["gpt2"]()
    wrapped = nn.ModuleDict({"model": model})
    section = OptimSection(learning_rate=1.0)
    inside = [list(group.parameters) for group in build_groups(model, section)]
    outside = [list(group.parameters) for group in build_groups(wrapped, section)]
    assert outside == [[f"model.{name}" for name in names] for names in inside]


def test_nothing_that_trains_is_an_error():
    model = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ModelError, match="no parameter"):
        build_groups(model, OptimSection(learning_rate=1.0))
