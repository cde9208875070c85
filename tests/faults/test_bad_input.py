"""A user's mistake: an exit code, one block that says what, where and what to change; no trace."""

from __future__ import annotations

import json
import re
import shutil
from typing import get_args

import pytest

from tests import smallrun, warm
from tests.smallrun import chat_rows, keys, tree, write_rows, write_yaml
from tunesmith.config.preflight import ProbeName

FILES_OF_A_LOCK = {".tunesmith.lock"}


def config(ground, **changes):
    return keys(ground / "base", ground / "chat_template.jsonl", **changes)


def refused(folder, path, *words, code=2, before=""):
    """What is said on stderr by a command that must fail and leave the output folder empty."""
    done = warm.run(folder, "train", path, *words, before=before)
    assert done.code == code, done
    assert "Traceback" not in done.err
    assert blocks(done.err) == 1, done.err
    left = {p.name for p in (folder / "out").iterdir()} if (folder / "out").exists() else set()
    assert left <= FILES_OF_A_LOCK
    return " ".join(done.err.split())


def blocks(text):
    return len(re.findall(r"^error: ", text, flags=re.MULTILINE))


def test_an_unknown_key_is_placed_and_the_nearest_is_named(ground, tmp_path):
    path = write_yaml(tmp_path, config(ground))
    lines = [*path.read_text().splitlines(), "learnin_rate: 1e-4"]
    path.write_text("\n".join(lines) + "\n")
    said = refused(tmp_path, path)
    assert f"run.yaml:{len(lines)}:1" in said
    assert "there is no key `learnin_rate`" in said
    assert "did you mean `learning_rate`?" in said


def test_several_problems_come_in_one_report(ground, tmp_path):
    path = write_yaml(tmp_path, config(ground, lora_dropout=3, num_epoch=2))
    said = refused(tmp_path, path)
    assert "num_epoch: there is no key" in said
    assert "lora_dropout: must be less than 1" in said


def test_a_missing_data_file_is_named(ground, tmp_path):
    entry = {"path": "no/such/rows.jsonl", "type": "alpaca"}
    said = refused(tmp_path, write_yaml(tmp_path, config(ground, datasets=[entry])))
    assert "no/such/rows.jsonl" in said


def test_a_wrong_field_is_named_with_its_row_and_the_nearest(ground, tmp_path):
    rows = [{"instruction": "a", "outputs": "b"}, {"instruction": "c", "outputs": "d"}]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    entry = {"path": str(data), "type": "alpaca"}
    said = refused(tmp_path, write_yaml(tmp_path, config(ground, datasets=[entry])))
    assert f"{data}:1" in said
    assert "output" in said
    assert "outputs" in said


def test_a_broken_line_is_named(ground, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl", chat_rows(3))
    data.write_text(data.read_text() + '{"messages": [\n')
    entry = {"path": str(data), "type": "chat_template"}
    said = refused(tmp_path, write_yaml(tmp_path, config(ground, datasets=[entry])))
    assert f"{data}:4" in said
    assert "is not complete" in said


@pytest.mark.parametrize("content", ["", "\n\n"], ids=["empty", "blank"])
def test_empty_data_is_refused(ground, tmp_path, content):
    data = tmp_path / "rows.jsonl"
    data.write_text(content)
    entry = {"path": str(data), "type": "chat_template"}
    said = refused(tmp_path, write_yaml(tmp_path, config(ground, datasets=[entry])))
    assert str(data) in said


def test_data_in_which_nothing_trains_is_refused(ground, tmp_path):
    rows = [{"messages": [{"role": "user", "content": f"Only a question {i}"}]} for i in range(4)]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    entry = {"path": str(data), "type": "chat_template"}
    said = refused(tmp_path, write_yaml(tmp_path, config(ground, datasets=[entry])))
    assert "train" in said
    assert "preprocess" in said or "roles_to_train" in said


def test_data_that_is_all_too_long_is_refused(ground, tmp_path):
    said = refused(tmp_path, write_yaml(tmp_path, config(ground, sequence_len=16)))
    assert "sequence_len" in said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no/such/folder/at/all", "no such folder"),
        ("nobody/nothing", "the hub does not give it"),
        ("model.gguf", "no such file"),
    ],
)
def test_an_unknown_model_is_named(ground, tmp_path, name, words):
    said = refused(tmp_path, write_yaml(tmp_path, config(ground, base_model=name)))
    assert f"the base model {name} cannot be found: " in said
    assert words in said


def test_a_folder_without_weights_is_refused(ground, tmp_path):
    hollow = shutil.copytree(ground / "base", tmp_path / "hollow")
    (hollow / "model.safetensors").unlink()
    said = refused(tmp_path, write_yaml(tmp_path, config(ground, base_model=str(hollow))))
    assert "the folder has no weights" in said


def test_weights_in_a_pickle_are_refused_as_unsafe(ground, tmp_path):
    hollow = shutil.copytree(ground / "base", tmp_path / "hollow")
    (hollow / "model.safetensors").rename(hollow / "pytorch_model.bin")
    path = write_yaml(tmp_path, config(ground, base_model=str(hollow)))
    assert "pickled weights only" in refused(tmp_path, path, code=8)


def test_an_adapter_target_that_matches_nothing_is_named(ground, tmp_path):
    changes = {"lora_target_linear": None, "lora_target_modules": ["q_prj"]}
    said = refused(tmp_path, write_yaml(tmp_path, config(ground, **changes)))
    assert "q_prj" in said
    assert "q_proj" in said


def test_a_missing_chat_template_says_what_to_set(ground, tmp_path):
    plain = shutil.copytree(ground / "base", tmp_path / "plain")
    (plain / "chat_template.jinja").unlink()
    said = refused(tmp_path, write_yaml(tmp_path, config(ground, base_model=str(plain))))
    assert "chat_template" in said
    assert "chatml" in said


HIDE_BITSANDBYTES = """
import sys
from importlib.machinery import PathFinder
class WithoutBitsandbytes(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.split(".")[0] != "bitsandbytes":
            return super().find_spec(name, path, target)
sys.meta_path[:] = [WithoutBitsandbytes if f is PathFinder else f for f in sys.meta_path]
for name in [name for name in sys.modules if name.split(".")[0] == "bitsandbytes"]:
    del sys.modules[name]
"""


@pytest.mark.parametrize("key", ["load_in_4bit", "load_in_8bit"])
def test_a_quantised_base_without_bitsandbytes_says_what_to_install(ground, tmp_path, key):
    adapter = "qlora" if key == "load_in_4bit" else "lora"
    path = write_yaml(tmp_path, config(ground, **{key: True, "adapter": adapter}))
    said = refused(tmp_path, path, before=HIDE_BITSANDBYTES)
    assert "bitsandbytes" in said
    assert "tunesmith[bnb]" in said


def test_an_eight_bit_optimizer_without_bitsandbytes_says_what_to_install(ground, tmp_path):
    path = write_yaml(tmp_path, config(ground, optimizer="adamw_bnb_8bit"))
    said = refused(tmp_path, path, before=HIDE_BITSANDBYTES)
    assert "tunesmith[bnb]" in said


def test_the_folder_of_a_running_run_is_in_use(ground, tmp_path):
    path = write_yaml(tmp_path, config(ground, max_steps=100_000, save_steps=50_000))
    first = warm.start(tmp_path, "train", path)
    try:
        while not (tmp_path / "out/metrics.jsonl").exists():
            assert not first.has_ended()
        second = warm.run(tmp_path, "train", path)
        assert second.code == 6
        assert f"out is in use by process {first.pid}" in second.err
        assert blocks(second.err) == 1
        assert not first.has_ended()
    finally:
        first.send(9)
        first.wait()


def test_the_folder_of_another_run_is_refused_by_key(ground, tmp_path):
    path = write_yaml(tmp_path, config(ground, max_steps=2))
    assert warm.run(tmp_path, "train", path).code == 0
    before = tree(tmp_path / "out")
    other = write_yaml(tmp_path, config(ground, max_steps=2, lora_r=8, learning_rate=1e-3))
    done = warm.run(tmp_path, "train", other)
    assert done.code == 2
    assert "the output directory holds another run" in done.err
    assert "lora_r was 4, is 8" in done.err
    assert "learning_rate was 0.01, is 0.001" in done.err
    after = tree(tmp_path / "out")
    del before[".tunesmith.lock"], after[".tunesmith.lock"]
    assert after == before


def test_one_changed_key_is_refused_with_the_way_to_accept_it(ground, tmp_path):
    path = write_yaml(tmp_path, config(ground, max_steps=2))
    assert warm.run(tmp_path, "train", path).code == 0
    done = warm.run(tmp_path, "train", path, "--learning-rate", "1e-3")
    assert done.code == 2
    assert blocks(done.err) == 1
    assert "holds another run: learning_rate was 0.01, is 0.001" in done.err
    assert "--accept-change learning_rate" in done.err


def test_an_accepted_change_is_gone_on_with(ground, tmp_path):
    path = write_yaml(tmp_path, config(ground, max_steps=4))
    stop = "import os\nfrom tunesmith.runs import train\ntrain.finish = lambda *a: os._exit(9)"
    assert warm.run(tmp_path, "train", path, before=stop).code == 9
    words = ("train", path, "--weight-decay", "0.3")
    assert warm.run(tmp_path, *words).code == 2
    done = warm.run(tmp_path, *words, "--accept-change", "weight_decay")
    assert (done.code, done.err) == (0, "")
    plan = json.loads((tmp_path / "out/plan.json").read_text())
    assert plan["config"]["weight_decay"] == 0.3


def test_other_data_under_the_same_name_is_another_run(ground, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl", chat_rows(12))
    path = write_yaml(tmp_path, keys(ground / "base", data, max_steps=2))
    assert warm.run(tmp_path, "train", path).code == 0
    write_rows(data, chat_rows(13))
    done = warm.run(tmp_path, "train", path)
    assert done.code == 2
    assert "data_fingerprint was" in done.err


POISON = """
from tunesmith.engine import loop
real = loop.train_step
def poisoned(run, state, microbatches):
    if state.step == 4:
        next(p for p in run.policy.parameters() if p.requires_grad).data.fill_(float("nan"))
    return real(run, state, microbatches)
loop.train_step = poisoned
"""


def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_checkpoint(ground, tmp_path):
    path = write_yaml(tmp_path, config(ground))
    done = warm.run(tmp_path, "train", path, before=POISON)
    assert done.code == 4
    assert blocks(done.err) == 1
    assert "step 5 went bad: the loss is nan" in done.err
    assert "learning_rate" in done.err
    names = sorted(p.name for p in (tmp_path / "out").glob("checkpoint-*"))
    assert names == ["checkpoint-2", "checkpoint-4"]
    assert not (tmp_path / "out/tunesmith.json").exists()
    assert not (tmp_path / "out/adapter_model.safetensors").exists()
    assert [line["step"] for line in smallrun.metrics(tmp_path / "out")] == [1, 2, 3, 4]
    again = warm.run(tmp_path, "train", path)
    assert (again.code, again.err) == (0, "")
    assert "going on from checkpoint-4" in again.out
    assert warm.run(tmp_path, "train", path, "--output-dir", "whole").code == 0
    assert smallrun.weights(tmp_path / "out") == smallrun.weights(tmp_path / "whole")


def test_a_poisoned_base_is_not_trained(ground, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    bad = shutil.copytree(ground / "base", tmp_path / "bad")
    tensors = load_file(bad / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][3, 4] = torch.nan
    save_file(tensors, bad / "model.safetensors", {"format": "pt"})
    path = write_yaml(tmp_path, config(ground, base_model=str(bad)))
    refused(tmp_path, path)  # by the preflight: this cannot train
    skip = f"[{', '.join(get_args(ProbeName))}]"
    done = warm.run(tmp_path, "train", path, "--preflight-skip", skip)
    assert done.code == 4
    assert "step 1 went bad: the loss is nan" in done.err
    assert not list((tmp_path / "out").glob("checkpoint-*"))


def test_an_evaluation_of_a_folder_without_a_run_says_so(ground, tmp_path):
    path = write_yaml(tmp_path, config(ground, val_set_size=0.2))
    done = warm.run(tmp_path, "evaluate", path)
    assert (done.code, blocks(done.err)) == (2, 1)
    assert "out holds no" in done.err


@pytest.mark.parametrize("command", ["generate", "merge"])
def test_a_folder_without_a_model_cannot_be_used(tmp_path, command):
    words = ["--prompt", "Hi"] if command == "generate" else []
    done = warm.run(tmp_path, command, tmp_path / "nothing", *words)
    assert (done.code, blocks(done.err)) == (2, 1)
    assert "holds neither a model nor an adapter" in done.err
