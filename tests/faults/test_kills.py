"""A run is killed at any moment of its life; the same command ends it as if nothing had been."""

from __future__ import annotations

import json
import random
import signal
import time

import pytest

from tests import smallrun, warm
from tests.smallrun import full, keys, write_yaml
from tunesmith.checkpoint import layout

METHODS = {
    "lora": {"lora_dropout": 0.1},
    "qlora": {"adapter": "qlora", "load_in_4bit": True, "lora_dropout": 0.1},
    "full": full(),
}

DIE_AT_RENAME = """
import os, signal
from pathlib import Path
from tunesmith.runs import train
finish, replace, left = train.finish, Path.replace, [{number}]
def counted(self, target):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
def finishing(*arguments):
    Path.replace = counted
    return finish(*arguments)
train.finish = finishing
"""


def config(ground, name, **changes):
    data = ground / "chat_template.jsonl"
    usual = {"max_steps": 12, "save_steps": 3, "save_total_limit": 2, "val_set_size": 0.2}
    return keys(ground / "base", data, **{**usual, **METHODS[name], **changes})


@pytest.fixture(scope="module")
def whole(ground, tmp_path_factory):
    """Makes the output folder of an uninterrupted run, once for each method."""
    made = {}

    def of(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            done = warm.run(folder, "train", write_yaml(folder, config(ground, name)))
            assert (done.code, done.err) == (0, "")
            made[name] = folder / "out"
        return made[name]

    return of


def assert_ends_as(folder, path, expected):
    again = warm.run(folder, "train", path)
    assert (again.code, again.err) == (0, "")
    assert smallrun.weights(folder / "out") == smallrun.weights(expected)
    records = [json.loads((f / "tunesmith.json").read_text()) for f in (folder / "out", expected)]
    assert records[0] == records[1]
    left = [p.name for p in (folder / "out").iterdir() if p.name.startswith(".")]
    assert left == [".tunesmith.lock"]


@pytest.mark.parametrize("number", [0, 2, 5])
def test_a_kill_between_two_files_of_the_export(ground, whole, tmp_path, number):
    path = write_yaml(tmp_path, config(ground, "full"))
    done = warm.run(tmp_path, "train", path, before=DIE_AT_RENAME.format(number=number))
    assert done.code == -signal.SIGKILL
    assert not (tmp_path / "out/tunesmith.json").exists()
    assert_ends_as(tmp_path, path, whole("full"))


def test_a_killed_run_on_a_quantised_base_ends_with_the_same_bytes(ground, whole, tmp_path):
    path = write_yaml(tmp_path, config(ground, "qlora"))
    process = warm.start(tmp_path, "train", path)
    wait_for(process, tmp_path / "out/checkpoint-6")
    process.send(signal.SIGKILL)
    assert process.wait().code == -signal.SIGKILL
    assert_ends_as(tmp_path, path, whole("qlora"))


@pytest.mark.faults
@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("name", METHODS)
def test_a_kill_at_any_rename_of_the_export(ground, whole, tmp_path, name, number):
    path = write_yaml(tmp_path, config(ground, name))
    done = warm.run(tmp_path, "train", path, before=DIE_AT_RENAME.format(number=number))
    assert done.code in (0, -signal.SIGKILL)
    if done.code == 0:
        assert number >= 6
    assert_ends_as(tmp_path, path, whole(name))


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", METHODS)
def test_kills_at_random_moments(ground, whole, tmp_path, name, seed):
    """Three in a row, anywhere between the start of the command and its end."""
    expected = whole(name)
    path = write_yaml(tmp_path, config(ground, name))
    draw = random.Random(f"{name}{seed}")
    for _ in range(3):
        process = warm.start(tmp_path, "train", path)
        time.sleep(draw.uniform(0.05, 1.5))
        if not process.has_ended():
            process.send(signal.SIGKILL)
        assert process.wait().code in (0, -signal.SIGKILL)
        assert not layout.survey(tmp_path / "out").damaged
    assert_ends_as(tmp_path, path, expected)


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["cut", "flipped", "gone", "added"])
@pytest.mark.parametrize("name", ["lora", "full"])
def test_any_damaged_file_of_a_checkpoint_is_noticed(ground, whole, tmp_path, name, kind):
    """Of the newest checkpoint of an unfinished run, each file in turn."""
    path = write_yaml(tmp_path, config(ground, name))
    names = [p.relative_to(whole(name) / "checkpoint-9") for p in files_of(whole(name))]
    for file in names:
        out = tmp_path / "out"
        assert warm.run(tmp_path, "train", path, before=DIE_AT_RENAME.format(number=0)).code < 0
        damage(out / "checkpoint-12", file, kind)
        again = warm.run(tmp_path, "train", path)
        assert (again.code, again.err) == (0, ""), file
        flat = " ".join(again.out.split())
        assert "damaged, not used: checkpoint-12: " in flat, file
        assert "going on from checkpoint-9" in flat, file
        assert smallrun.weights(out) == smallrun.weights(whole(name)), file
        (out / "tunesmith.json").unlink()


def files_of(output_dir):
    return sorted(p for p in (output_dir / "checkpoint-9").rglob("*") if p.is_file())


def damage(checkpoint, name, kind):
    path = checkpoint / name
    content = bytearray(path.read_bytes())
    if kind == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif kind == "gone":
        path.unlink()
    else:
        path.with_name(path.name + ".safetensors").write_bytes(content)


def wait_for(process, path):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        assert not process.has_ended(), process.wait()
        time.sleep(0.001)
