"""What lies in an output directory already is never overwritten, mixed or removed in silence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import smallrun
from tunesmith.checkpoint import layout
from tunesmith.config import read
from tunesmith.errors import ExitCode, RunError, TunesmithError
from tunesmith.launch import local
from tunesmith.runs.preflight.check import PROBES
from tunesmith.runs.watchers import Watchers


def start(ground: Path, out: Path, **changes):
    keys = smallrun.keys(ground / "base", ground / "chat_template.jsonl", **changes)
    keys["output_dir"] = str(out)
    return local.start(read.load(keys).config, Watchers(said=SAID.append))


SAID: list[str] = []


def refused(ground: Path, out: Path, **changes) -> RunError:
    with pytest.raises(RunError) as caught:
        start(ground, out, **changes)
    assert caught.value.exit_code == ExitCode.WRONG_INPUT
    return caught.value


def test_the_base_models_own_folder_is_no_output_directory(ground, tmp_path):
    base = shutil.copytree(ground / "base", tmp_path / "base")
    before = smallrun.tree(base)
    error = refused(ground, base, **smallrun.full(base_model=str(base)))
    assert "config.json" in error.message
    after = {name: stamp for name, stamp in smallrun.tree(base).items() if "lock" not in name}
    assert after == before


def test_somebody_elses_model_and_checkpoints_are_left_alone(ground, tmp_path):
    for number, name in enumerate(["model.safetensors", "checkpoint-100/trainer_state.json"]):
        out = tmp_path / str(number)
        (out / name).parent.mkdir(parents=True)
        (out / name).write_text("theirs")
        assert "no run of tunesmith made" in refused(ground, out).message
        assert (out / name).read_text() == "theirs"


def test_rotation_removes_only_what_has_our_manifest(ground, tmp_path):
    start(ground, tmp_path / "out", save_steps=1, max_steps=3)
    theirs = tmp_path / "out" / "checkpoint-1000"
    theirs.mkdir()
    doomed = layout.surplus(tmp_path / "out", keep=1, best_step=None)
    assert [path.name for path in doomed] == ["checkpoint-1", "checkpoint-2"]


def test_a_checkpoint_of_another_run_is_refused_until_accepted(ground, tmp_path):
    start(ground, tmp_path / "a", save_steps=1, max_steps=2)
    named = str(tmp_path / "a" / "checkpoint-1")
    changes = {"resume_from_checkpoint": named, "max_steps": 2}
    error = refused(ground, tmp_path / "b", learning_rate=1e-3, **changes)
    assert "the checkpoint holds another run: learning_rate was 0.01, is 0.001" in error.message
    shutil.move(tmp_path / "a" / "plan.json", tmp_path / "plan.json")
    error = refused(ground, tmp_path / "b", seed=8, **changes)
    assert "seed was 7, is 8" in error.message


def test_a_named_checkpoint_is_gone_on_from_with_its_probes(ground, tmp_path):
    start(ground, tmp_path / "a", save_steps=1, max_steps=3)
    whole = smallrun.weights(tmp_path / "a")
    probed = []
    keys = smallrun.keys(ground / "base", ground / "chat_template.jsonl", max_steps=3)
    keys |= {"save_steps": 1, "output_dir": str(tmp_path / "b")}
    keys["resume_from_checkpoint"] = str(tmp_path / "a" / "checkpoint-2")
    said: list[str] = []
    local.start(read.load(keys).config, Watchers(said=said.append, probed=probed.append))
    assert smallrun.weights(tmp_path / "b") == whole
    assert len(probed) == len(PROBES)
    assert any("1 of 3 steps left" in line for line in said)


def test_another_split_of_the_same_global_batch_goes_on(ground, tmp_path):
    start(ground, tmp_path / "a", save_steps=1, max_steps=2, lora_dropout=0)
    shutil.rmtree(tmp_path / "a" / "checkpoint-2")
    (tmp_path / "a" / "tunesmith.json").unlink()
    start(
        ground,
        tmp_path / "a",
        save_steps=1,
        max_steps=2,
        lora_dropout=0,
        micro_batch_size=2,
        gradient_accumulation_steps=1,
    )
    assert [line["step"] for line in smallrun.step_lines(tmp_path / "a")] == [1, 2]


@pytest.mark.parametrize("name", ["a file", "/proc/none"])
def test_an_output_directory_that_cannot_be_is_the_users_mistake(ground, tmp_path, name):
    (tmp_path / "a file").write_text("")
    error = refused(ground, tmp_path / name)
    assert error.where == "output_dir"


def test_an_error_says_everything_where_only_the_exception_is_seen():
    with pytest.raises(TunesmithError) as caught:
        read.load({"base_model": "m", "lora_rr": 3, "sequence_len": -1})
    text = str(caught.value)
    assert "lora_rr" in text
    assert "lora_r" in text
    assert "sequence_len" in text
    assert "fix:" in text
