from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.unit.export.parts import make_base, make_export
from tunesmith.checkpoint import durable
from tunesmith.checkpoint.layout import sha256_of
from tunesmith.errors import ExitCode, RunError
from tunesmith.export.compare import plain_logits, policy_logits
from tunesmith.export.final import export

# peft asks transformers by a name that transformers 5 has renamed.
RENAMED = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@RENAMED
def test_an_adapter_loads_in_plain_peft_and_says_the_same(tmp_path):
    base = make_base(tmp_path / "base")
    job = make_export(tmp_path / "out", base)
    assert export(job) == tmp_path / "out"
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "out")
    trained = policy_logits(job.policy, job.prompts)
    for ours, theirs in zip(trained, plain_logits(model, job.prompts), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template is not None
    assert job.policy.training, "the policy is as it was"


def test_a_full_model_loads_in_plain_transformers_and_says_the_same(tmp_path):
    job = make_export(tmp_path / "out", make_base(tmp_path / "base"), adapter=None)
    export(job)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    trained = policy_logits(job.policy, job.prompts)
    for ours, theirs in zip(trained, plain_logits(model, job.prompts), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": torch.bfloat16},
        {"dtype": torch.bfloat16, "adapter": None},
        {"adapter": "qlora"},
        {"whole": ("norm",)},
    ],
)
def test_other_kinds_are_proven_too(tmp_path, changes):
    dtype = changes.get("dtype", torch.float32)
    job = make_export(tmp_path / "out", make_base(tmp_path / "base", dtype=dtype), **changes)
    export(job)
    record = json.loads((tmp_path / "out" / "tunesmith.json").read_text())
    assert record["dtype"] == str(dtype).removeprefix("torch.")
    assert (record["quantization"] is not None) == (changes.get("adapter") == "qlora")
    assert 0 <= record["proof"]["logit_gap"] < (1.0 if dtype == torch.bfloat16 else 1e-4)


def test_the_record_names_every_file(tmp_path):
    out = tmp_path / "out"
    export(make_export(out, make_base(tmp_path / "base")))
    record = json.loads((out / "tunesmith.json").read_text())
    names = {path.name for path in out.iterdir()} - {"tunesmith.json"}
    assert names == record["files"].keys()
    assert {"README.md", "adapter_model.safetensors", "tokenizer.json"} <= names
    assert all(sha256_of(out / name) == digest for name, digest in record["files"].items())
    assert record["base"] == {"original": str(tmp_path / "base")}
    assert len(record["base_weights_sha256"]) == 64
    assert record["proof"]["logit_gap_to_base"] > 0.01


@pytest.mark.parametrize("adapter", ["lora", None])
def test_a_model_that_is_its_base_is_refused(tmp_path, adapter):
    job = make_export(tmp_path / "out", make_base(tmp_path / "base"), adapter=adapter, learned=0.0)
    with pytest.raises(RunError, match="nothing was learned") as caught:
        export(job)
    assert caught.value.exit_code == ExitCode.DAMAGED
    assert list((tmp_path / "out").iterdir()) == []


def spoil_weights(folder: Path, name: str) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / name)
    key = sorted(tensors)[0]
    tensors[key] = tensors[key] + 1e-6
    save_file(tensors, folder / name, metadata={"format": "pt"})


def test_weights_that_were_written_wrongly_are_found(tmp_path, monkeypatch):
    job = make_export(tmp_path / "out", make_base(tmp_path / "base"))
    write = type(job.files).write

    def wrong(self, folder):
        files = write(self, folder)
        spoil_weights(folder, "adapter_model.safetensors")
        return files

    monkeypatch.setattr(type(job.files), "write", wrong)
    with pytest.raises(RunError, match=r"read back differs.*lora_A") as caught:
        export(job)
    assert caught.value.exit_code == ExitCode.DAMAGED
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("key", "value"), [("lora_alpha", 9), ("use_rslora", True)])
def test_a_wrong_adapter_config_is_found_by_logits(tmp_path, key, value):
    job = make_export(tmp_path / "out", make_base(tmp_path / "base"))

    def write_companions(folder: Path) -> None:
        job.files.write_companions(folder)
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

    spoilt = replace(job, files=replace(job.files, write_companions=write_companions))
    with pytest.raises(RunError, match="differs from what was trained") as caught:
        export(spoilt)
    assert caught.value.exit_code == ExitCode.DAMAGED


def test_a_tensor_that_is_left_out_is_found(tmp_path):
    job = make_export(tmp_path / "out", make_base(tmp_path / "base"))
    tensors = job.files.tensors
    calls = []

    def fewer():
        calls.append(1)
        items = list(tensors())
        return items if len(calls) != 3 else items[1:]  # the third call writes

    with pytest.raises(RunError, match="read back differs"):
        export(replace(job, files=replace(job.files, tensors=fewer)))


def test_an_earlier_export_goes_with_its_files(tmp_path):
    out, base = tmp_path / "out", make_base(tmp_path / "base")
    first = make_export(out, base, adapter=None)
    export(replace(first, files=replace(first.files, shard_bytes=100_000)))
    assert (out / "model.safetensors.index.json").exists()
    (out / "mine.txt").write_text("mine")
    export(make_export(out, base, learned=0.1))
    names = {path.name for path in out.iterdir()}
    assert not any(name.startswith("model") for name in names)
    assert {"mine.txt", "adapter_model.safetensors", "tunesmith.json"} <= names


def test_a_failed_export_leaves_the_earlier_one(tmp_path):
    out, base = tmp_path / "out", make_base(tmp_path / "base")
    export(make_export(out, base))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(RunError, match="nothing was learned"):
        export(make_export(out, base, learned=0.0))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_without_room_nothing_is_written(tmp_path, monkeypatch):
    job = make_export(tmp_path / "out", make_base(tmp_path / "base"))
    usage = durable.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(durable.shutil, "disk_usage", lambda path: usage._replace(free=1))
    with pytest.raises(RunError, match="no room left") as caught:
        export(job)
    assert caught.value.exit_code == ExitCode.NO_ROOM
    assert list((tmp_path / "out").iterdir()) == []


def test_a_base_that_no_folder_holds_is_said_aloud(tmp_path, caplog):
    job = make_export(tmp_path / "out", make_base(tmp_path / "base"))
    export(replace(job, base=None))
    assert "was not loaded again" in caplog.text
    record = json.loads((tmp_path / "out" / "tunesmith.json").read_text())
    assert record["proof"]["logit_gap"] is None
    assert record["proof"]["logit_gap_to_base"] > 0
