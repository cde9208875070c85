"""Every probe passes on a good run and fails, by name, on the defect that it is there for."""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest
import torch

from tests import smallrun, warm
from tests.smallrun import full, keys, write_rows, write_yaml
from tunesmith.config.preflight import ProbeName
from tunesmith.config.read import load
from tunesmith.data.cache import PreparedSplit
from tunesmith.data.samples import TokenSample
from tunesmith.data.stream import MapStream
from tunesmith.errors import ExitCode, ProbeError
from tunesmith.kernels.attention import masked_attention
from tunesmith.launch import local
from tunesmith.models.policy import Policy
from tunesmith.patches import attention
from tunesmith.runs import assemble, prepare
from tunesmith.runs.preflight.check import PROBES
from tunesmith.runs.preflight.probe import excerpt
from tunesmith.runs.watchers import Watchers


@pytest.fixture
def probe(ground, tmp_path, monkeypatch):
    """Probes a small run with changes of the config; returns the findings."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(**changes):
        findings = []
        config = keys(ground / "base", ground / "chat_template.jsonl", **changes)
        local.rehearse(load(config).config, Watchers(probed=findings.append))
        assert not (tmp_path / "out").exists()
        return findings

    return run


def failing(probe, name, **changes):
    with pytest.raises(ProbeError) as caught:
        probe(**changes)
    assert caught.value.exit_code == ExitCode.WRONG_INPUT
    assert caught.value.message.startswith(f"preflight {name}: ")
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("changes", [{}, full(), {"sample_packing": False}, {"lora_dropout": 0.2}])
def test_a_good_run_passes_every_probe(probe, changes):
    findings = probe(**changes)
    assert [f.name for f in findings] == list(PROBES)
    assert len(PROBES) == 10
    assert not any(f.skipped for f in findings)
    assert all(f.seen for f in findings)


def test_attention_across_documents_is_seen(probe, monkeypatch):
    def across(query, key, value, segments, longest, *, scoring):
        return masked_attention(query, key, value, None, scoring=scoring)

    monkeypatch.setattr(attention, "varlen_attention", across)
    error = failing(probe, "isolation")
    assert "chat_template.jsonl:" in error.message
    assert "LlamaForCausalLM" in error.message
    assert "sample_packing" in error.hint


def test_targets_that_are_not_shifted_are_seen(probe, monkeypatch):
    forward = Policy.forward

    def unshifted(self, batch, want):
        batch.targets["target_ids"] = batch.inputs["input_ids"]
        return forward(self, batch, want)

    monkeypatch.setattr(Policy, "forward", unshifted)
    error = failing(probe, "loss")
    assert "plain transformers gives" in error.message
    assert "chat_template.jsonl:" in error.message


def test_a_head_that_is_scaled_wrongly_is_seen(probe, monkeypatch):
    from tunesmith.models.projection import Projection

    scaled = Projection.dot
    monkeypatch.setattr(Projection, "dot", lambda self, x, *rest: scaled(self, x * 1.01, *rest))
    failing(probe, "loss")


def change_adapter(monkeypatch, change):
    """Let ``change`` at the model after the adapter was put in."""
    real = assemble.add_adapter

    def changed(model, *arguments, **named):
        info = real(model, *arguments, **named)
        change(model)
        return info

    monkeypatch.setattr(assemble, "add_adapter", changed)


def lora(model, kind):
    return [(n, p) for n, p in model.named_parameters() if f"lora_{kind}." in n]


@pytest.mark.parametrize(
    ("kind", "words"),
    # Behind a B that stands still at zero its A has no gradient either.
    [("A", "1 tensors of the adapter do not train"), ("B", "1 of 27 trained parameters get no")],
)
def test_a_frozen_part_of_the_adapter_is_seen(probe, monkeypatch, kind, words):
    change_adapter(monkeypatch, lambda model: lora(model, kind)[3][1].requires_grad_(False))
    error = failing(probe, "coverage")
    assert words in error.message
    assert "layers.0.self_attn.o_proj.lora_" in error.where


def test_a_module_that_the_gradient_does_not_reach_is_seen(probe, monkeypatch):
    def cut(model):
        layer = model.model.layers[1].self_attn.v_proj
        layer.register_forward_hook(lambda module, given, out: out.detach())

    change_adapter(monkeypatch, cut)
    error = failing(probe, "coverage")
    assert "2 of 28 trained parameters get no gradient" in error.message
    assert "layers.1.self_attn.v_proj" in error.where


def test_a_tensor_that_is_not_saved_is_seen(probe, monkeypatch):
    real = assemble.adapter_state
    dropped = "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"

    def without(policy):
        state = real(policy)
        del state[dropped]
        return state

    monkeypatch.setattr(assemble, "adapter_state", without)
    error = failing(probe, "coverage")
    assert error.where == dropped


def test_values_that_change_on_their_way_to_the_disk_are_seen(probe, monkeypatch):
    real = assemble.full_state
    monkeypatch.setattr(
        assemble,
        "full_state",
        lambda p: {n: v + (n == "model.norm.weight") for n, v in real(p).items()},
    )
    error = failing(probe, "coverage", **full())
    assert error.where == "model.norm.weight"


def change_samples(monkeypatch, change):
    real = PreparedSplit.__getitem__
    monkeypatch.setattr(PreparedSplit, "__getitem__", lambda self, row: change(real(self, row)))


def test_answers_whose_end_is_not_trained_are_seen(probe, monkeypatch):
    def without_end(sample):
        runs = tuple((a, b - 1, w) for a, b, w in sample.runs)
        return TokenSample(sample.input_ids, runs, sample.source)

    change_samples(monkeypatch, without_end)
    error = failing(probe, "stops")
    assert "no end-of-turn token is trained in 32 answers" in error.message
    assert "chat_template.jsonl:" in error.where


def test_ends_that_are_left_out_on_purpose_are_no_defect(probe, ground):
    entry = {"path": str(ground / "chat_template.jsonl"), "type": "chat_template"}
    findings = {f.name: f for f in probe(datasets=[{**entry, "train_on_eos": "none"}])}
    assert findings["stops"].seen.startswith("0 of 32 trained spans end a turn")


def test_a_pad_token_that_trains_is_seen(probe):
    error = failing(probe, "stops", special_tokens={"pad_token": "s"})
    assert "the pad token" in error.message
    assert "chat_template.jsonl:" in error.where
    assert "pad_token" in error.hint


def test_a_step_whose_tokens_are_all_masked_is_seen(probe, monkeypatch):
    real = MapStream.weights
    monkeypatch.setattr(
        MapStream,
        "weights",
        lambda self, step: {"tokens": 0.0} if step == 1 else real(self, step),
    )
    error = failing(probe, "conservation")
    assert "step 2 trains nothing" in error.message
    assert "chat_template.jsonl:" in error.where


def test_a_step_that_loses_tokens_is_seen(probe, monkeypatch):
    real = MapStream.weights
    monkeypatch.setattr(
        MapStream, "weights", lambda self, step: {n: v - 1 for n, v in real(self, step).items()}
    )
    assert "the data holds 341.0" in failing(probe, "conservation").message


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["tokens_masked"], "are accounted for"),
        (["tokens_masked", "tokens_in"], "the data holds 1,271"),
    ],
    ids=["unbalanced", "balanced"],
)
def test_a_ledger_that_was_tampered_with_is_seen(probe, monkeypatch, names, words):
    real = prepare.prepare_data

    def tampered(*arguments):
        prepared = real(*arguments)
        for name in names:
            account = prepared.ledger.accounts[0]
            setattr(account, name, getattr(account, name) + 5)
        return prepared

    monkeypatch.setattr(prepare, "prepare_data", tampered)
    error = failing(probe, "conservation")
    assert words in error.message
    assert "chat_template.jsonl" in error.where


def test_long_prompts_are_no_defect(probe, tmp_path):
    """Every answer begins behind what the probes look at of a row."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"{i} " + "long " * 80},
                {"role": "assistant", "content": "short"},
            ]
        }
        for i in range(6)
    ]
    data = write_rows(tmp_path / "long.jsonl", rows)
    entry = {"path": str(data), "type": "chat_template"}
    assert len(probe(datasets=[entry], sequence_len=512)) == len(PROBES)


def test_an_excerpt_is_taken_around_the_first_trained_token():
    sample = TokenSample(np.arange(100, dtype=np.int32), ((60, 70, 1.0), (90, 100, 0.5)), "a:1")
    part = excerpt(sample, 40)
    assert part.input_ids.tolist() == list(range(40, 80))
    assert part.runs == ((20, 30, 1.0),)
    assert excerpt(sample, 70).input_ids.tolist() == list(range(25, 95))
    assert excerpt(sample, 70).runs == ((35, 45, 1.0), (65, 70, 0.5))
    assert excerpt(sample, 200).runs == sample.runs
    late = TokenSample(np.arange(100, dtype=np.int32), ((99, 100, 1.0),), "a:2")
    assert excerpt(late, 40).input_ids.tolist() == list(range(60, 100))
    assert excerpt(late, 40).runs == ((39, 40, 1.0),)
    assert excerpt(TokenSample(sample.input_ids, (), "a:3"), 10).input_ids.tolist() == list(
        range(10)
    )


def test_a_run_leaves_generators_modes_and_gradients_alone(probe, monkeypatch):
    seen = []
    real = local.check

    def watched(plan, material, mesh, watchers):
        def assembled(*arguments, **named):
            made = assemble.assemble(*arguments, **named)
            seen.append((made.run, torch.get_rng_state(), made.run.policy.training))
            return made

        monkeypatch.setattr("tunesmith.runs.train.assemble", assembled)
        return real(plan, material, mesh, watchers)

    monkeypatch.setattr(local, "check", watched)
    probe(lora_dropout=0.3)
    ((run, state, training),) = seen
    assert torch.equal(torch.get_rng_state(), state)
    assert run.policy.training is training is True
    assert all(p.grad is None for p in run.policy.parameters())


@pytest.mark.parametrize("changes", [{"lora_dropout": 0.1}, full()], ids=["lora", "full"])
def test_weights_are_the_same_bytes_with_and_without(ground, tmp_path, changes):
    config = keys(ground / "base", ground / "chat_template.jsonl", **changes)
    found = []
    for skip in ([], list(PROBES)):
        name = f"out-{len(skip)}"
        path = write_yaml(tmp_path, {**config, "output_dir": name, "preflight_skip": skip})
        done = warm.run(tmp_path, "train", path)
        assert (done.code, done.err) == (0, "")
        found.append(smallrun.weights(tmp_path / name))
        plan = json.loads((tmp_path / name / "plan.json").read_text())
        assert [f["name"] for f in plan["preflight"] if f["skipped"]] == skip
    assert found[0] == found[1]


def test_a_probe_that_is_left_out_is_recorded_and_the_defect_goes_on(ground, tmp_path):
    config = keys(
        ground / "base", ground / "chat_template.jsonl", special_tokens={"pad_token": "s"}
    )
    path = write_yaml(tmp_path, config)
    refused = warm.run(tmp_path, "check", path)
    assert refused.code == 2
    assert refused.err.startswith("error: preflight stops: ")
    assert not (tmp_path / "out").exists()
    done = warm.run(tmp_path, "train", path, "--preflight-skip", "[stops]")
    assert (done.code, done.err) == (0, "")
    assert "left out  stops" in done.out
    plan = json.loads((tmp_path / "out/plan.json").read_text())
    assert [(f["name"], f["skipped"]) for f in plan["preflight"]] == [
        (name, name == "stops") for name in PROBES
    ]


def test_the_probes_are_those_that_the_config_knows():
    assert get_args(ProbeName) == tuple(PROBES)


def test_a_probe_that_does_not_exist_cannot_be_left_out(ground, tmp_path):
    config = keys(ground / "base", ground / "chat_template.jsonl", preflight_skip=["isolaton"])
    done = warm.run(tmp_path, "train", write_yaml(tmp_path, config))
    assert done.code == 2
    assert "isolaton" in done.err
    assert "isolation" in done.err
