"""Groups: decayed and not decayed exactly as transformers' Trainer decides."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.optimizers import create_loraplus_optimizer
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

from tunesmith.config.optim import OptimSection, RateGroup
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


def rates(model, **keys):
    section = OptimSection(learning_rate=1e-3, weight_decay=0.1, **keys)
    groups = build_groups(model, section)
    return {name: (group.rate, group.weight_decay) for group in groups for name in group.parameters}


def test_embeddings_and_the_head_learn_at_a_rate_of_their_own():
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    plain, own = rates(model), rates(model, embedding_rate=1e-5)
    tables = {"model.embed_tokens.weight", "lm_head.weight"}
    assert {name for name in own if own[name] != plain[name]} == tables
    assert {own[name] for name in tables} == {(1e-5, 0.1)}
    scaled = rates(model, embedding_scale=0.5)
    assert {scaled[name] for name in tables} == {(5e-4, 0.1)}
    frozen = rates(model, embedding_rate=0.0)
    assert {frozen[name] for name in tables} == {(0.0, 0.1)}


def test_loraplus_has_the_rates_of_peft():
    model = LlamaForCausalLM(LlamaConfig(**SIZES, attention_bias=True))
    config = LoraConfig(r=2, target_modules=["q_proj", "embed_tokens"], bias="lora_only")
    wrapped = inject_adapter_in_model(config, model)
    theirs = create_loraplus_optimizer(
        wrapped,
        torch.optim.SGD,
        lr=1e-3,
        loraplus_lr_ratio=16,
        loraplus_lr_embedding=1e-5,
    )
    wanted = {id(p): group["lr"] for group in theirs.param_groups for p in group["params"]}
    found = rates(wrapped, loraplus_ratio=16, loraplus_embedding_rate=1e-5)
    assert {rate for rate, _ in found.values()} == {1e-3, 1e-3 * 16, 1e-5}
    named = {n: wanted[id(p)] for n, p in wrapped.named_parameters() if p.requires_grad}
    assert {name: rate for name, (rate, _) in found.items()} == pytest.approx(named)


def test_named_groups_come_first_and_the_first_that_fits_holds_a_parameter():
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    groups = (
        RateGroup(name="up", modules=("mlp.up_proj", "lm_head"), lr=1e-4),
        RateGroup(name="mlp", modules=("mlp",), lr=1e-5),
    )
    found = rates(model, rate_groups=groups, embedding_rate=1e-6)
    assert found["model.layers.0.mlp.up_proj.weight"] == (1e-4, 0.1)
    assert found["lm_head.weight"] == (1e-4, 0.1)
    assert found["model.layers.1.mlp.down_proj.weight"] == (1e-5, 0.1)
    assert found["model.embed_tokens.weight"] == (1e-6, 0.1)
    assert found["model.layers.0.input_layernorm.weight"] == (1e-3, 0.0)


def test_the_first_group_learns_at_the_common_rate():
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    groups = (RateGroup(name="a", modules=("mlp",), lr=1e-4),)
    section = OptimSection(learning_rate=1e-3, rate_groups=groups)
    built = build_groups(model, section)
    assert [group.rate for group in built] == [1e-3, 1e-3, 1e-3, 1e-4]
    assert len({group.name for group in built}) == len(built)


@pytest.mark.parametrize("name", ["own", "mlp"])
def test_groups_of_one_name_keep_their_rates(name):
    """A name may be that of a rate for embeddings, too."""
    groups = (
        RateGroup(name=name, modules=("lm_head",), lr=1e-4),
        RateGroup(name=name, modules=("mlp",), lr=1e-5),
    )
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    found = rates(model, rate_groups=groups, embedding_rate=1e-6)
    assert found["lm_head.weight"] == (1e-4, 0.1)
    assert found["model.layers.1.mlp.down_proj.weight"] == (1e-5, 0.1)
    assert found["model.embed_tokens.weight"] == (1e-6, 0.1)


def test_a_group_without_parameters_is_refused():
    groups = (RateGroup(name="none", modules=("mpl",), lr=1e-4),)
    with pytest.raises(ModelError, match="no trained parameter is in the group `none`"):
        rates(LlamaForCausalLM(LlamaConfig(**SIZES)), rate_groups=groups)
