from __future__ import annotations

import json
import shutil

import pytest
import torch
from peft.tuners.lora.layer import Linear
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.unit.export.parts import make_base, make_export
from tunesmith.checkpoint.weights import read_weights, save_tensors, write_weights
from tunesmith.errors import ExitCode, RunError
from tunesmith.export.compare import plain_logits, policy_logits
from tunesmith.export.final import export
from tunesmith.export.merge import merge


def exported(tmp_path, **changes):
    job = make_export(tmp_path / "out", make_base(tmp_path / "base"), **changes)
    export(job)
    return job


@pytest.mark.parametrize("changes", [{}, {"adapter": "qlora"}])
def test_the_merged_model_says_what_was_trained(tmp_path, changes):
    job = exported(tmp_path, **changes)
    folder = merge(tmp_path / "out")
    assert folder == tmp_path / "out" / "merged"
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.float32
    assert getattr(model.config, "quantization_config", None) is None
    trained = policy_logits(job.policy, job.prompts)
    for ours, theirs in zip(trained, plain_logits(model, job.prompts), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    assert AutoTokenizer.from_pretrained(folder).chat_template is not None


def test_the_names_are_those_of_the_base(tmp_path):
    exported(tmp_path)
    folder = merge(tmp_path / "out", tmp_path / "elsewhere")
    assert folder == tmp_path / "elsewhere"
    merged, base = dict(read_weights(folder)), dict(read_weights(tmp_path / "base"))
    assert {n: t.shape for n, t in merged.items()} == {n: t.shape for n, t in base.items()}


def test_the_sum_is_base_plus_scaled_product(tmp_path):
    exported(tmp_path)
    merged, base = (
        dict(read_weights(merge(tmp_path / "out"))),
        dict(read_weights(tmp_path / "base")),
    )
    adapter = dict(read_weights(tmp_path / "out", "adapter_model"))
    name = "model.layers.1.mlp.up_proj"
    a = adapter[f"base_model.model.{name}.lora_A.weight"].double()
    b = adapter[f"base_model.model.{name}.lora_B.weight"].double()
    expected = base[f"{name}.weight"].double() + 8 / 4 * b @ a
    torch.testing.assert_close(merged[f"{name}.weight"].double(), expected, rtol=0, atol=1e-6)


def test_a_module_that_trained_whole_is_merged(tmp_path):
    exported(tmp_path, whole=("norm",))
    merged = dict(read_weights(merge(tmp_path / "out")))
    adapter = dict(read_weights(tmp_path / "out", "adapter_model"))
    saved = next(tensor for name, tensor in adapter.items() if name.endswith(".model.norm.weight"))
    assert torch.equal(merged["model.norm.weight"], saved)


def test_half_precision_is_rounded_once(tmp_path):
    # The base on disk is float32: training saw it rounded, so the sum starts from the rounded one.
    export(make_export(tmp_path / "out", make_base(tmp_path / "base"), dtype=torch.bfloat16))
    folder = merge(tmp_path / "out")
    merged, base = dict(read_weights(folder)), dict(read_weights(tmp_path / "base"))
    assert {tensor.dtype for tensor in merged.values()} == {torch.bfloat16}
    adapter = dict(read_weights(tmp_path / "out", "adapter_model"))
    name = "model.layers.1.mlp.up_proj"
    a = adapter[f"base_model.model.{name}.lora_A.weight"]
    b = adapter[f"base_model.model.{name}.lora_B.weight"]
    expected = base[f"{name}.weight"].bfloat16().float() + 8 / 4 * (b @ a)
    assert torch.equal(merged[f"{name}.weight"], expected.bfloat16())
    record = json.loads((folder / "tunesmith.json").read_text())
    assert 0 < record["proof"]["rounded_share_of_effect"] < 0.25
    # The same weights and buffers, so the same numbers.
    assert record["proof"]["logit_gap"] == 0.0


def test_an_effect_that_is_rounded_away_is_said_aloud(tmp_path, caplog):
    base = make_base(tmp_path / "base", dtype=torch.bfloat16)
    export(make_export(tmp_path / "out", base, dtype=torch.bfloat16, learned=0.003))
    merge(tmp_path / "out")
    assert "serving the adapter itself is more exact" in caplog.text


def test_the_base_may_have_moved(tmp_path):
    exported(tmp_path)
    shutil.move(tmp_path / "base", tmp_path / "moved")
    with pytest.raises(RunError, match="neither here nor on the hub") as caught:
        merge(tmp_path / "out")
    assert caught.value.exit_code == ExitCode.WRONG_INPUT
    merge(tmp_path / "out", base=str(tmp_path / "moved"))


def test_another_base_is_refused(tmp_path):
    exported(tmp_path)
    make_base(tmp_path / "other", seed=5)
    with pytest.raises(
        RunError, match="is not the base that this adapter was trained on"
    ) as caught:
        merge(tmp_path / "out", base=str(tmp_path / "other"))
    assert caught.value.exit_code == ExitCode.WRONG_INPUT
    assert not (tmp_path / "out" / "merged").exists()


def test_a_whole_model_has_nothing_to_merge(tmp_path):
    make_base(tmp_path / "base")
    with pytest.raises(RunError, match="nothing to merge") as caught:
        merge(tmp_path / "base")
    assert caught.value.exit_code == ExitCode.WRONG_INPUT


def test_the_adapter_is_not_overwritten(tmp_path):
    exported(tmp_path)
    with pytest.raises(RunError, match="cannot replace"):
        merge(tmp_path / "out", tmp_path / "out")


def test_an_adapter_without_effect_is_refused(tmp_path):
    exported(tmp_path)
    path = tmp_path / "out" / "adapter_model.safetensors"
    zeroed = {
        name: tensor * 0 if "lora_B" in name else tensor
        for name, tensor in read_weights(tmp_path / "out", "adapter_model")
    }
    save_tensors(path, zeroed)
    with pytest.raises(RunError, match="nothing was learned") as caught:
        merge(tmp_path / "out")
    assert caught.value.exit_code == ExitCode.DAMAGED
    assert not (tmp_path / "out" / "merged").exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_merge_that_loses_a_layer_is_refused(tmp_path, monkeypatch, dtype):
    exported(tmp_path, dtype=dtype)
    fold = Linear.get_delta_weight
    skipped = []

    def forgetful(self, adapter):
        delta = fold(self, adapter)
        skipped.append(1)
        return delta if len(skipped) != 3 else torch.zeros_like(delta)

    monkeypatch.setattr(Linear, "get_delta_weight", forgetful)
    with pytest.raises(RunError, match="differs from what was trained") as caught:
        merge(tmp_path / "out")
    assert caught.value.exit_code == ExitCode.DAMAGED
    assert not (tmp_path / "out" / "merged").exists()


def test_weights_that_were_written_wrongly_are_found(tmp_path, monkeypatch):
    exported(tmp_path)

    def write(folder, tensors):
        wrong = {n: t + 1e-6 if "layers.0.mlp.up_proj" in n else t for n, t in tensors}
        return write_weights(folder, wrong.items())

    monkeypatch.setattr("tunesmith.export.merge.write_weights", write)
    with pytest.raises(RunError, match=r"read back differs.*layers\.0\.mlp\.up_proj"):
        merge(tmp_path / "out")
    assert not (tmp_path / "out" / "merged").exists()


def test_an_adapter_that_does_not_fill_its_layers_is_refused(tmp_path):
    exported(tmp_path)
    path = tmp_path / "out" / "adapter_model.safetensors"
    fewer = dict(list(read_weights(tmp_path / "out", "adapter_model"))[1:])
    save_tensors(path, fewer)
    with pytest.raises(RunError, match="does not fit its base") as caught:
        merge(tmp_path / "out")
    assert caught.value.exit_code == ExitCode.DAMAGED


def test_the_record_says_where_it_came_from(tmp_path):
    exported(tmp_path)
    folder = merge(tmp_path / "out")
    record = json.loads((folder / "tunesmith.json").read_text())
    assert record["merged_from"] == str(tmp_path / "out")
    assert record["proof"]["logit_gap"] < 1e-4 < record["proof"]["logit_gap_to_base"]
    assert (folder / "README.md").read_text().startswith("---\nlibrary_name: transformers\n")
