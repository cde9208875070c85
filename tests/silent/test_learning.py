"""Rows 25, 26 and 40: the loss is scaled by another rule, or less trains than was asked for."""

from __future__ import annotations

from typing import get_args

import pytest
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from tests.silent.attempts import wrap
from tests.smallrun import full, keys
from tunesmith.config.environment import Environment
from tunesmith.config.preflight import ProbeName
from tunesmith.config.read import load
from tunesmith.engine import step
from tunesmith.launch import local
from tunesmith.models import adapters
from tunesmith.runs import assemble
from tunesmith.runs.watchers import Watchers

# --- row 25: accumulation changes loss and gradient -----------------------------------------------


def test_a_loss_that_is_divided_in_each_micro_batch(attempts, monkeypatch):
    """A mean of the micro-batches' means: short rows weigh as much as long ones."""

    def of_its_own(real, self, microbatches, totals):
        sizes = [float(batch.targets["weights"].sum()) for batch in microbatches]
        if len(sizes) == 1:
            return real(self, microbatches, totals)
        queue = [{"tokens": len(sizes) * size} for size in sizes]
        with pytest.MonkeyPatch.context() as inner:
            mean = step.mean
            inner.setattr(step, "mean", lambda loss, _: mean(loss, queue.pop(0)))
            return real(self, microbatches, totals)

    wrap(monkeypatch, step.Backward, "__call__", of_its_own)
    attempts.refused("invariance", "accumulation changes what is trained", "jsonl:")


def test_gradients_that_are_summed_and_never_divided(attempts, monkeypatch):
    """The loss is divided by one micro-batch's weight, the gradient is a sum over all of them."""

    def undivided(real, self, microbatches, totals):
        n = len(microbatches)
        return real(self, microbatches, {name: total / n for name, total in totals.items()})

    wrap(monkeypatch, step.Backward, "__call__", undivided)
    attempts.refused("invariance", "accumulation changes what is trained", "jsonl:")


def test_a_gradient_that_is_too_long_in_every_layout(attempts, monkeypatch):
    """The sum over the micro-batches was never divided, however many they are."""
    wrap(monkeypatch, step, "mean", lambda real, *given: 4 * real(*given))
    attempts.refused("loss", "has the norm", "plain transformers gives", "jsonl:")


def test_a_loss_over_the_padding_as_well(attempts, monkeypatch):
    """Labels of the padding are those of a token: rows of another length, another loss."""
    real = assemble.build_objective

    def counts_all(*given):
        objective = real(*given)

        def loss(policy, batch):
            made = type(objective).loss(objective, policy, batch)
            share = batch.n_tokens / max(1.0, float(batch.targets["weights"].sum()))
            made.sums["tokens"] = made.sums["tokens"] * share
            return made

        objective.loss = loss
        return objective

    monkeypatch.setattr(assemble, "build_objective", counts_all)
    told = attempts.train()
    assert told.by in ("loss", "invariance")
    assert not told.trained
    assert "jsonl:" in told.text


# --- row 26: the same config trains otherwise after an upgrade ------------------------------------


def upgrade(monkeypatch, name, version):
    """Let the environment report another version of a library."""
    from tunesmith.launch import local

    real = local.runtime.detect

    def detected(*given):
        found: Environment = real(*given)
        versions = {**found.versions, name: version}
        object.__setattr__(found, "versions", versions)
        return found

    monkeypatch.setattr(local.runtime, "detect", detected)


def test_a_library_that_computes_otherwise_since_it_was_upgraded(attempts, monkeypatch):
    """The new version normalises with another epsilon, in every model and everywhere alike."""
    quick = {"preflight_skip": ["isolation", "invariance", "resume", "export"], "max_steps": 1}
    assert attempts.train(**quick, output_dir="before").trained
    upgrade(monkeypatch, "transformers", "99.0")
    assert attempts.train(**quick, output_dir="same").trained

    def shifted(real, self, hidden):
        return real(self, hidden) * 1.02

    wrap(monkeypatch, LlamaRMSNorm, "forward", shifted)
    attempts.refused(
        "upgrade",
        "transformers",
        "-> 99.0",
        "an earlier run of the same base, rows and config",
        **quick,
        output_dir="after",
    )


def test_the_same_versions_are_never_blamed(attempts, monkeypatch):
    quick = {"preflight_skip": ["isolation", "invariance", "resume", "export"], "max_steps": 1}
    assert attempts.train(**quick, output_dir="before").trained

    def shifted(real, self, hidden):
        return real(self, hidden) * 1.02

    wrap(monkeypatch, LlamaRMSNorm, "forward", shifted)
    told = attempts.train(**quick, output_dir="after")
    assert told.trained, told.text
    assert "under the same versions" in told.text


def test_only_a_run_that_trains_keeps_its_first_rows(attempts):
    """A model that was handed in is no base's, and a rehearsal leaves nothing behind."""
    others = [name for name in get_args(ProbeName) if name != "upgrade"]
    model = AutoModelForCausalLM.from_pretrained(attempts.ground / "base")
    rows = attempts.ground / "chat_template.jsonl"
    config = load(keys(attempts.ground / "base", rows, preflight_skip=others, max_steps=1)).config
    findings = []
    local.start(config, Watchers(probed=findings.append), model=model)
    local.rehearse(config, Watchers())
    assert {f.seen for f in findings if not f.skipped} == {"not compared: the model was handed in"}
    assert not list((attempts.folder / "cache").glob("first-rows/*"))


# --- row 40: LoRA trains less than was asked for --------------------------------------------------


def test_modules_of_a_rule_that_get_no_adapter(attempts, monkeypatch):
    """The rule names every layer's `q_proj`; the adapter reaches those of the first layer."""
    wrap(
        monkeypatch,
        adapters,
        "LoraConfig",
        lambda real, **named: real(**named, layers_to_transform=[0]),
    )
    attempts.refused(
        "settings",
        "lora_target_modules (q_proj) asks for 'an adapter'",
        "model.layers.1.self_attn.q_proj has 'none'",
        lora_target_linear=None,
        lora_target_modules=["q_proj", "v_proj"],
    )


def test_a_module_that_a_rule_names_and_that_stands_still(attempts, monkeypatch):
    def frozen(real, model, *given, **named):
        info = real(model, *given, **named)
        for name, parameter in model.named_parameters():
            if "layers.1.self_attn.v_proj.lora_" in name:
                parameter.requires_grad = False
        return info

    wrap(monkeypatch, assemble, "add_adapter", frozen)
    attempts.refused(
        "coverage", "tensors of the adapter do not train", "layers.1.self_attn.v_proj.lora_A"
    )


def test_a_part_that_the_backward_pass_does_not_reach(attempts, monkeypatch):
    """A cache or a detach cuts the graph: what lies behind it has no gradient."""

    def cut(real, model, *given, **named):
        info = real(model, *given, **named)
        model.model.layers[0].mlp.register_forward_hook(lambda module, _, out: out.detach())
        return info

    wrap(monkeypatch, assemble, "add_adapter", cut)
    attempts.refused("coverage", "get no gradient", "layers.0.mlp.")


@pytest.mark.parametrize("family", ["GptOss", "Mixtral"])
def test_experts_that_no_linear_rule_reaches_are_named(attempts, family_base, family):
    """They are one tensor, no linear layers: an adapter on all linear layers leaves them out."""
    told = attempts.train(base_model=family_base(family), max_steps=1, preflight_skip=["export"])
    assert "FROZEN although asked for" in told.text, told.text
    assert "model.layers.*.mlp.experts." in told.text


def test_a_shared_expert_that_is_passed_over_for_the_others_is_named(attempts, family_base):
    """Peft sends `gate_proj` to the tensor of all experts, and the shared one gets no adapter."""
    quick = ["export", "isolation", "invariance", "resume"]
    base = family_base("Qwen3Next")
    told = attempts.train(base_model=base, max_steps=1, preflight_skip=quick)
    assert "FROZEN although asked for: model.layers.*.mlp.shared_expert.down_proj" in told.text


def test_experts_that_a_rule_names_and_that_are_no_modules(attempts, family_base):
    changes = {"lora_target_linear": None, "lora_target_modules": ["q_proj", "gate_up_proj"]}
    told = attempts.train(base_model=family_base("GptOss"), **changes)
    assert told.error is not None
    assert not told.trained
    assert "'gate_up_proj' matches no module of GptOssForCausalLM" in told.text


def test_a_frozen_attention_beside_idle_experts(attempts, monkeypatch, family_base):
    """That some expert had no token is no excuse for what is not an expert."""

    def cut(real, model, *given, **named):
        info = real(model, *given, **named)
        model.model.layers[1].self_attn.register_forward_hook(
            lambda module, _, out: (out[0].detach(), *out[1:])
        )
        return info

    wrap(monkeypatch, assemble, "add_adapter", cut)
    attempts.refused(
        "coverage", "get no gradient", "layers.1.self_attn.", base_model=family_base("Mixtral")
    )


def test_a_full_fine_tuning_that_leaves_a_part_out(attempts, monkeypatch):
    def partly(real, model):
        real(model)
        model.model.layers[1].mlp.register_forward_hook(lambda module, _, out: out.detach())

    wrap(monkeypatch, assemble, "train_everything", partly)
    attempts.refused("coverage", "get no gradient", "layers.1.mlp.", **full())
