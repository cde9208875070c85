"""Rows 3, 6, 7, 20 and 27: what was asked for did not arrive, and a plausible default trained."""

from __future__ import annotations

import json
import shutil
from typing import get_args

import pytest
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from tests.silent.attempts import CHECK, wrap
from tests.smallrun import full
from tunesmith.config.preflight import ProbeName
from tunesmith.models import adapters, load, quantize
from tunesmith.optim.build import Recipe
from tunesmith.runs import assemble


@pytest.fixture
def changed_base(ground, tmp_path):
    """Makes a copy of the base whose ``config.json`` was changed."""

    def change(edit):
        folder = shutil.copytree(ground / "base", tmp_path / "changed")
        path = folder / "config.json"
        config = json.loads(path.read_text())
        edit(config)
        path.write_text(json.dumps(config))
        return str(folder)

    return change


# --- row 3: upstream renames a field, and callers fall back to a default in silence ---------------


def test_a_context_length_under_a_name_that_is_no_longer_read(attempts, changed_base):
    def rename(config):
        config["max_seq_len"] = config.pop("max_position_embeddings")

    attempts.refused(
        "settings", "max_seq_len asks for 256", "has 2048", base_model=changed_base(rename)
    )


def test_a_rotary_base_that_falls_back_to_its_default(attempts, changed_base, monkeypatch):
    """The field was renamed, and whoever reads it by the old name gets 10,000."""
    base = changed_base(lambda config: config["rope_parameters"].update(rope_theta=500_000.0))

    def by_the_old_name(real, config, *rest, **named):
        rope = dict(config.rope_parameters)
        config.rope_parameters = {**rope, "rope_theta": rope.get("rotary_base", 10_000.0)}
        try:
            return real(config, *rest, **named)
        finally:
            config.rope_parameters = rope

    real = LlamaRotaryEmbedding.compute_default_rope_parameters
    monkeypatch.setattr(
        LlamaRotaryEmbedding,
        "compute_default_rope_parameters",
        staticmethod(lambda *a, **k: by_the_old_name(real, *a, **k)),
    )
    attempts.refused(
        "settings", "rope_theta asks for 500000", "rotary embedding has 10000", base_model=base
    )


@pytest.mark.parametrize("theta", [10_000.0, 500_000.0, 1_000_000.0, 10_000_000.0])
def test_an_ordinary_rotary_base_is_no_defect(attempts, family_base, theta):
    rope = {"rope_type": "default", "rope_theta": theta}
    base = family_base("Llama", head_dim=128, rope_parameters=rope)
    others = [name for name in get_args(ProbeName) if name != "settings"]
    told = attempts.train(base_model=base, max_steps=1, preflight_skip=others)
    assert told.trained, told.text


@pytest.mark.parametrize(
    ("argument", "words"),
    [("dtype", "bf16 asks for"), ("attn_implementation", "attn_implementation asks for")],
)
def test_an_argument_that_the_loader_swallows(attempts, monkeypatch, argument, words):
    """As when `torch_dtype` became `dtype`: the loader takes any keyword and forgets it."""
    real = AutoModelForCausalLM.from_pretrained

    class Renamed:
        @staticmethod
        def from_pretrained(*given, **named):
            named.pop(argument)
            return real(*given, **named)

    monkeypatch.setattr(load, "AutoModelForCausalLM", Renamed)
    attempts.refused("settings", words, **full(bf16=True, optimizer="adamw_torch"))


# --- row 6: options that are accepted and never read ----------------------------------------------


@pytest.mark.parametrize("key", ["adam_beta2", "adam_epsilon"])
def test_an_option_of_the_optimizer_that_nobody_reads(attempts, monkeypatch, key):
    ours = {"adam_beta2": "betas", "adam_epsilon": "eps"}[key]
    real = Recipe.adam.fget

    def without(recipe):
        return {name: value for name, value in real(recipe).items() if name != ours}

    monkeypatch.setattr(Recipe, "adam", property(without))
    attempts.refused("settings", f"{key} asks for 0.5", **{key: 0.5})


def test_an_option_of_the_quantisation_that_nobody_reads(attempts, monkeypatch):
    def forgets(real, arguments):
        return real({k: v for k, v in arguments.items() if k != "bnb_4bit_use_double_quant"})

    wrap(monkeypatch, quantize, "_build", forgets)
    attempts.refused(
        "settings",
        "bnb_4bit_use_double_quant asks for True",
        "layers.0.self_attn.q_proj",
        adapter="qlora",
        load_in_4bit=True,
    )


@pytest.mark.filterwarnings("ignore:You passed `quantization_config`:UserWarning")
@pytest.mark.parametrize("bits", [{"load_in_4bit": True}, {"load_in_8bit": True}])
def test_a_repository_that_is_quantised_already(attempts, tmp_path, bits):
    """Its own config.json says how; a key that says otherwise is the user's to take out."""
    folder = tmp_path / "quantised"
    wish = BitsAndBytesConfig(**bits)
    model = AutoModelForCausalLM.from_pretrained(
        attempts.ground / "base", quantization_config=wish, device_map={"": "cpu"}
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(attempts.ground / "base").save_pretrained(folder)
    others = [name for name in get_args(ProbeName) if name != "settings"]
    once = {"base_model": str(folder), "max_steps": 1, "preflight_skip": others}
    told = attempts.train(**once)
    assert told.trained, told.text
    if "load_in_8bit" not in bits:
        other = {"load_in_8bit": True, "adapter": "lora", "output_dir": "other"}
        told = attempts.refused("settings", "load_in_8bit asks for True", **once, **other)
        assert "take the key out" in told.text
        assert "report it" not in told.text


def test_an_override_of_the_models_config_that_nobody_reads(attempts, monkeypatch):
    wanted = {"attention_dropout": 0.25}

    def unread(real, base):
        config = real(base)
        config.attention_dropout = 0.0
        return config

    wrap(monkeypatch, load, "read_config", unread)
    attempts.refused(
        "settings",
        "overrides_of_model_config.attention_dropout asks for 0.25",
        overrides_of_model_config=wanted,
    )


# --- row 7: typos and values that are none --------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learnin_rate": 1e-4}, ["learnin_rate", "learning_rate"]),
        ({"adapter": "loora"}, ["adapter", "lora"]),
        ({"lora_r": "sixteen"}, ["lora_r"]),
        ({"lora_target_modules": ["q_prj"], "lora_target_linear": None}, ["q_prj", "q_proj"]),
    ],
    ids=["unknown key", "unknown value", "no number", "unknown module"],
)
def test_a_typo_is_named_with_what_was_meant(attempts, changes, words):
    told = attempts.train(**changes)
    assert told.error is not None
    assert not told.trained
    assert all(word in told.text for word in words), told.text


def test_a_typo_is_found_by_the_config_check_alone(attempts):
    attempts.refused(CHECK, "learnin_rate", "did you mean", learnin_rate=1e-4)


# --- row 20: packing makes the step count, and so the schedule, wrong -----------------------------


def test_a_schedule_over_the_steps_of_unpacked_rows(attempts, monkeypatch):
    def unpacked(real, section, steps, warmup):
        return real(section, 24 // 2, warmup)

    wrap(monkeypatch, assemble, "build_schedule", unpacked)
    attempts.refused(
        "settings", "lr_scheduler asks for", "the schedule at step", num_epochs=2, max_steps=None
    )


# --- row 27: the same settings give a worse result than elsewhere ---------------------------------


def test_an_adapter_scaled_by_another_rule(attempts, monkeypatch):
    """alpha / sqrt(r) where everybody else has alpha / r."""
    wrap(
        monkeypatch,
        adapters,
        "LoraConfig",
        lambda real, **named: real(**{**named, "use_rslora": True}),
    )
    attempts.refused("settings", "lora_alpha asks for 2.0", "layers.0.self_attn.q_proj has 4.0")


def test_a_weight_decay_of_the_optimizers_own(attempts, monkeypatch):
    real = assemble.build_groups

    def undecayed(*given):
        groups = real(*given)
        for group in groups:
            object.__setattr__(group, "weight_decay", 0.01)
        return groups

    monkeypatch.setattr(assemble, "build_groups", undecayed)
    attempts.refused("settings", "weight_decay asks for 0.3", weight_decay=0.3)


@pytest.mark.slow
def test_what_the_defects_change_is_really_there(attempts, monkeypatch):
    """The one about the scale, with the probe left out, trains with twice the adapter."""
    seen = []
    wrap(
        monkeypatch,
        adapters,
        "LoraConfig",
        lambda real, **named: real(**{**named, "use_rslora": True}),
    )

    def looked_at(real, *given, **named):
        model = given[0]
        info = real(*given, **named)
        seen.extend(m.scaling["default"] for m in model.modules() if isinstance(m, LoraLayer))
        return info

    wrap(monkeypatch, assemble, "add_adapter", looked_at)
    told = attempts.train(preflight_skip=["settings"], max_steps=1)
    assert told.trained
    assert told.error is None
    assert set(seen) == {4.0}
