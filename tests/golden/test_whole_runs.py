"""Whole runs through the command, and what they leave."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import pytest
import torch
from peft import PeftModel
from ruamel.yaml import YAML
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests import smallrun, warm
from tests.smallrun import full, keys, random_ids, step_lines, write_yaml

# peft asks transformers by a name that transformers 5 has renamed, and is told so.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

METHODS = {"lora": {}, "full": full()}


@pytest.fixture(scope="module")
def finished(ground, tmp_path_factory):
    """Folders of a LoRA run and a full fine-tuning, with held-out data, by name."""
    folders = {}
    for name, changes in METHODS.items():
        folder = tmp_path_factory.mktemp(name)
        config = keys(
            ground / "base",
            ground / "chat_template.jsonl",
            val_set_size=0.25,
            eval_steps=3,
            **changes,
        )
        done = warm.run(folder, "train", write_yaml(folder, config))
        assert (done.code, done.err) == (0, "")
        folders[name] = folder / "out"
    return folders


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "unpacked"])
@pytest.mark.parametrize("name", smallrun.ROWS)
def test_every_format_trains(ground, tmp_path, name, packed):
    _, entry = smallrun.ROWS[name]
    config = keys(
        ground / "base",
        ground / f"{name}.jsonl",
        datasets=[{"path": str(ground / f"{name}.jsonl"), **entry}],
        sequence_len=512,
        sample_packing=packed,
        micro_batch_size=1 if packed else 4,
        max_steps=5,
        gradient_accumulation_steps=1,
        save_steps=None,
        save_strategy="no",
        learning_rate=2e-2,
    )
    done = warm.run(tmp_path, "train", write_yaml(tmp_path, config))
    assert (done.code, done.err) == (0, "")
    lines = step_lines(tmp_path / "out")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert lines[-1]["loss"] < lines[0]["loss"]
    ledger = json.loads((tmp_path / "out/ledger.json").read_text())
    rows, _ = smallrun.ROWS[name]
    assert str(len(rows)) in json.dumps(ledger)


@pytest.mark.parametrize("name", METHODS)
def test_the_folder_holds_what_scripts_rely_on(finished, name):
    folder = finished[name]
    weights = "adapter_model.safetensors" if name == "lora" else "model.safetensors"
    settings = "adapter_config.json" if name == "lora" else "config.json"
    names = {path.name for path in folder.iterdir()}
    assert {weights, settings, "tokenizer.json", "tokenizer_config.json", "README.md"} <= names
    assert {"config.yaml", "plan.json", "ledger.json", "metrics.jsonl", "tunesmith.json"} <= names
    assert {p for p in names if p.startswith("checkpoint-")} == {
        "checkpoint-2",
        "checkpoint-4",
        "checkpoint-6",
    }
    assert not [p for p in names if p.endswith(".partial")]
    record = json.loads((folder / "tunesmith.json").read_text())
    assert record["files"][weights] == sha256(folder / weights)
    for file, digest in record["files"].items():
        assert sha256(folder / file) == digest
    assert record["base"]["original"].endswith("base")
    assert record["state"]["step"] == 6
    card = (folder / "README.md").read_text()
    assert card.startswith("---\n")
    assert "base" in card.split("---")[1]


@pytest.mark.parametrize("name", METHODS)
def test_metrics_have_their_keys_at_every_step(finished, name):
    lines = smallrun.metrics(finished[name])
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 7))
    wanted = {"step", "loss", "learning_rate", "grad_norm", "tokens", "tokens_per_second"}
    for line in steps:
        assert wanted <= set(line)
        assert all(isinstance(line[key], float | int) for key in wanted)
    held_out = [line for line in lines if "eval_loss" in line]
    assert [line["step"] for line in held_out] == [3, 6]
    assert held_out[1]["eval_loss"] < held_out[0]["eval_loss"]
    record = json.loads((finished[name] / "tunesmith.json").read_text())
    assert record["results"]["eval_loss"] == held_out[1]["eval_loss"]


@pytest.mark.parametrize("name", METHODS)
def test_checkpoints_load_and_their_manifest_is_right(finished, ground, name):
    folder = finished[name] / "checkpoint-6"
    manifest = json.loads((folder / "manifest.json").read_text())
    on_disk = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert set(manifest["files"]) == on_disk - {"manifest.json"}
    for file, entry in manifest["files"].items():
        assert entry["sha256"] == sha256(folder / file)
    if name == "full":
        model = AutoModelForCausalLM.from_pretrained(folder)
    else:
        plain = AutoModelForCausalLM.from_pretrained(ground / "base")
        model = PeftModel.from_pretrained(plain, str(folder))
    final = load(finished[name], ground)
    assert torch.equal(logits(model), logits(final))


def test_plan_and_ledger_say_what_was_done(finished):
    plan = json.loads((finished["lora"] / "plan.json").read_text())
    values = plan["values"]
    assert (values["steps"]["value"], values["global_batch"]["value"]) == (6, 2)
    assert not any(value.get("estimated") for value in values.values())
    assert all(value["reason"] for value in values.values())
    assert [finding["name"] for finding in plan["preflight"]] == [
        "conservation",
        "stops",
        "serving",
        "isolation",
        "loss",
        "invariance",
        "coverage",
        "longest",
        "resume",
        "export",
    ]
    steps = step_lines(finished["lora"])
    per_epoch = values["steps_per_epoch"]["value"]
    assert sum(s["tokens"] for s in steps[:per_epoch]) == values["tokens"]["value"]
    trained = sum(s["trained_tokens"] for s in steps[:per_epoch])
    assert trained == values["trained_tokens"]["value"]


def test_the_adapter_in_plain_peft_is_the_merged_model_in_plain_transformers(
    finished, ground, tmp_path
):
    merged = tmp_path / "merged"
    done = warm.run(tmp_path, "merge", finished["lora"], "--output-dir", merged)
    assert (done.code, done.err) == (0, "")
    adapted = logits(load(finished["lora"], ground))
    whole = logits(AutoModelForCausalLM.from_pretrained(merged))
    base = logits(AutoModelForCausalLM.from_pretrained(ground / "base"))
    torch.testing.assert_close(whole, adapted, atol=1e-4, rtol=1e-4)
    assert (adapted - base).abs().max() > 0.1
    assert AutoTokenizer.from_pretrained(merged).chat_template


@pytest.mark.parametrize("name", METHODS)
def test_generate_answers_from_the_folder(finished, name, tmp_path):
    done = warm.run(
        tmp_path, "generate", finished[name], "--prompt", "Say sun", "--max-new-tokens", 8, "--json"
    )
    assert (done.code, done.err) == (0, "")
    assert set(json.loads(done.out)) == {"prompt", "answer"}


def test_what_was_learned_by_heart_is_said_and_the_turn_is_ended(ground, tmp_path):
    config = keys(
        ground / "base",
        ground / "chat_template.jsonl",
        **full(max_steps=150, save_steps=None, save_strategy="no", learning_rate=5e-3),
    )
    done = warm.run(tmp_path, "train", write_yaml(tmp_path, config))
    assert (done.code, done.err) == (0, "")
    asked = {"Say sun": "sun", "Say moon!": "moon moon", "Say stars!!": "stars stars stars"}
    words = [word for prompt in asked for word in ("--prompt", prompt)]
    said = warm.run(tmp_path, "generate", "out", *words, "--max-new-tokens", 40, "--json")
    assert (said.code, said.err) == (0, "")
    answers = [json.loads(line) for line in said.out.splitlines()]
    assert {a["prompt"]: a["answer"] for a in answers} == asked

    # As somebody without tunesmith asks: the end of the turn is a token that the model writes.
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    turns = [{"role": "user", "content": "Say moon!"}]
    ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=40, do_sample=False)
    assert tokenizer.decode(out[0, ids["input_ids"].shape[1] :]) == "moon moon<|im_end|>"


@pytest.mark.parametrize("name", METHODS)
def test_the_recorded_config_trains_the_same_again(finished, name, tmp_path):
    recorded = YAML(typ="safe").load((finished[name] / "config.yaml").read_text())
    assert recorded["max_steps"] == 6
    done = warm.run(tmp_path, "train", finished[name] / "config.yaml")
    assert (done.code, done.err) == (0, "")
    assert smallrun.weights(tmp_path / "out") == smallrun.weights(finished[name])


def test_packing_does_not_change_what_is_learned(ground, tmp_path):
    """The rows of a step differ, so each step's rows are the whole data."""
    losses = []
    for packed in (True, False):
        config = keys(
            ground / "base",
            ground / "completion.jsonl",
            datasets=[{"path": str(ground / "completion.jsonl"), "type": "completion"}],
            sample_packing=packed,
            micro_batch_size=2 if packed else 16,
            gradient_accumulation_steps=8 if packed else 1,
            max_steps=4,
            output_dir=f"out-{packed}",
            save_steps=None,
            save_strategy="no",
        )
        done = warm.run(tmp_path, "train", write_yaml(tmp_path, config))
        assert (done.code, done.err) == (0, "")
        losses.append([line["loss"] for line in step_lines(tmp_path / f"out-{packed}")])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert losses[0][0] - losses[0][-1] > 0.1


def test_a_command_started_from_nothing_says_nothing_on_stderr(ground, tmp_path):
    """The other commands here are forked from a process that has imported everything."""
    config = keys(ground / "base", ground / "chat_template.jsonl", max_steps=2)
    path = write_yaml(tmp_path, config)
    done = subprocess.run(
        [sys.executable, "-c", "from tunesmith.cli.main import main; main()", "train", str(path)],
        cwd=tmp_path,
        env={**os.environ, "TUNESMITH_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "the adapter is in  out" in done.stdout
    again = warm.run(tmp_path, "train", path, "--output-dir", "again")
    assert again.code == 0
    assert smallrun.weights(tmp_path / "out") == smallrun.weights(tmp_path / "again")


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load(folder, ground):
    """A finished folder, as somebody without tunesmith loads it."""
    if not (folder / "adapter_config.json").exists():
        return AutoModelForCausalLM.from_pretrained(folder)
    plain = AutoModelForCausalLM.from_pretrained(ground / "base")
    return PeftModel.from_pretrained(plain, str(folder))


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=random_ids()).logits
