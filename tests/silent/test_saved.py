"""Rows 35, 36, 37 and 40: what leaves the run is not what was trained."""

from __future__ import annotations

import json

import pytest
import torch
from peft.tuners.lora.layer import Linear
from transformers import PreTrainedConfig

from tests.silent.attempts import PREPARE, wrap
from tests.smallrun import full
from tests.unit.export.parts import byte_tokenizer
from tunesmith.checkpoint import weights
from tunesmith.export import merge
from tunesmith.models import state
from tunesmith.runs import assemble

# --- row 35: the merge drops the effect, or its precision -----------------------------------------


def test_a_merge_that_equals_the_base(attempts, monkeypatch):
    wrap(monkeypatch, Linear, "get_delta_weight", lambda real, *given: real(*given) * 0)
    attempts.refused("export", "what was written differs from what was trained", "logits by")


def test_a_merge_by_another_scale(attempts, monkeypatch):
    wrap(monkeypatch, Linear, "get_delta_weight", lambda real, *given: real(*given) * 0.5)
    attempts.refused("export", "what was written differs from what was trained")


@pytest.mark.slow
def test_a_merge_that_loses_precision(attempts, monkeypatch):
    """The sum goes through a coarser dtype than that of the model."""

    def through_half(real, model, dtype):
        for parameter in model.parameters():
            parameter.data = parameter.data.to(torch.float8_e4m3fn)
        return real(model, dtype)

    wrap(monkeypatch, merge, "_round", through_half)
    told = attempts.train()
    assert "the merged model's logits are off by" in told.text


# --- row 36: heads, embeddings and added tokens that are not saved --------------------------------


def test_an_untied_head_that_is_not_saved(attempts, monkeypatch, family_base):
    """Taken for a tied one, which is its embedding and need not be saved."""
    wrap(
        monkeypatch,
        assemble,
        "full_state",
        lambda real, policy: {n: v for n, v in real(policy).items() if n != "lm_head.weight"},
    )
    base = family_base("Llama", tie_word_embeddings=False)
    attempts.refused("coverage", "would not be saved: lm_head.weight", base_model=base, **full())


def test_a_module_that_trains_whole_and_is_not_saved(attempts, monkeypatch, family_base):
    def only_lora(real, policy):
        return {name: value for name, value in real(policy).items() if ".lora_" in name}

    wrap(monkeypatch, assemble, "adapter_state", only_lora)
    base = family_base("Llama", tie_word_embeddings=False)
    attempts.refused(
        "coverage",
        "would not be saved",
        "lm_head",
        base_model=base,
        lora_modules_to_save=["lm_head"],
    )


def test_a_token_for_which_the_embedding_has_no_row(attempts, family_base):
    base = family_base("Llama", vocab_size=259)
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<tool>", "</tool>"])
    tokenizer.save_pretrained(base)
    attempts.refused(
        PREPARE, "the tokenizer has 261 tokens, the model has rows for 259", base_model=base
    )


# --- row 37: served output differs from that of training ------------------------------------------


def test_a_config_that_is_saved_without_its_rotary_base(attempts, monkeypatch, family_base):
    def without(real, self, folder, **named):
        real(self, folder, **named)
        path = f"{folder}/config.json"
        with open(path) as file:
            config = json.load(file)
        config.pop("rope_parameters", None)
        with open(path, "w") as file:
            json.dump(config, file)

    rope = {"rope_type": "default", "rope_theta": 50.0}
    base = family_base("Llama", rope_parameters=rope)
    wrap(monkeypatch, PreTrainedConfig, "save_pretrained", without)
    attempts.refused(
        "export", "what was written differs from what was trained", base_model=base, **full()
    )


def test_an_artefact_in_a_coarser_dtype(attempts, monkeypatch):
    """Written in fewer bits than it was trained in, without a word."""

    def coarser(real, path, tensors):
        real(path, {n: v.to(torch.bfloat16).to(v.dtype) for n, v in tensors.items()})

    wrap(monkeypatch, weights, "save_tensors", coarser)
    told = attempts.train(**full())
    assert told.by in ("coverage", "export")
    assert not told.trained
    assert "with other values than were saved" in told.text or "differs" in told.text


# --- row 40: an adapter under names that nobody finds ---------------------------------------------


@pytest.mark.parametrize("by", ["a prefix too few", "another layer's names"])
def test_an_adapter_saved_under_wrong_names(attempts, monkeypatch, by):
    def renamed(real, policy):
        if by == "a prefix too few":
            return {n.removeprefix("base_model."): v for n, v in real(policy).items()}
        return {
            n.replace("layers.0.", "layers.9.")
            .replace("layers.1.", "layers.0.")
            .replace("layers.9.", "layers.1."): v
            for n, v in real(policy).items()
        }

    wrap(monkeypatch, assemble, "adapter_state", renamed)
    told = attempts.train()
    assert told.by in ("coverage", "export")
    assert not told.trained
    assert "lora_" in told.text


def test_an_adapter_whose_names_no_loader_knows(attempts, monkeypatch):
    """Saving and resuming agree with each other, and peft finds nothing in the file."""
    monkeypatch.setattr(state, "PEFT_PREFIX", "model.")
    attempts.refused("export", "does not fit its base", "lora_")
