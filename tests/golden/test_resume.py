"""A run that was killed or stopped goes on, and ends as if nothing had happened."""

from __future__ import annotations

import json
import shutil
import signal
import time

import pytest

from tests import smallrun, warm
from tests.smallrun import full, keys, step_lines, tree, write_yaml

STEPS = 30
METHODS = {"lora": {"lora_dropout": 0.1}, "full": full()}

# The base has dropout of its own, so that a full fine-tuning draws random numbers as well.
DROPPING = {"overrides_of_model_config": {"attention_dropout": 0.1}}


def config(ground, name, **changes):
    usual = {
        "max_steps": STEPS,
        "save_steps": 4,
        "val_set_size": 0.2,
        "eval_steps": 10,
        "save_total_limit": 3,
    }
    data = ground / "chat_template.jsonl"
    return keys(ground / "base", data, **{**usual, **DROPPING, **METHODS[name], **changes})


def kill_at(process, output_dir, step, number=signal.SIGKILL):
    """Send the signal as soon as ``metrics.jsonl`` has reached ``step``."""
    path = output_dir / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and any(s >= step for s in steps_in(path)):
            process.send(number)
            return
        assert not process.has_ended(), process.wait()
        time.sleep(0.001)
    pytest.fail(f"step {step} was not reached")


def steps_in(path):
    """The steps of the whole lines; the last one may be half written."""
    whole = path.read_bytes().rpartition(b"\n")[0]
    return [json.loads(line)["step"] for line in whole.splitlines()]


@pytest.fixture(scope="module")
def whole(ground, tmp_path_factory):
    """The output folders of uninterrupted runs, by method."""
    folders = {}
    for name in METHODS:
        folder = tmp_path_factory.mktemp(name)
        done = warm.run(folder, "train", write_yaml(folder, config(ground, name)))
        assert (done.code, done.err) == (0, "")
        folders[name] = folder / "out"
    return folders


def without_clock(lines):
    """Metrics without what depends on the clock and the process."""
    untold = {"tokens_per_second", "seconds", "memory_bytes"}
    return [{k: v for k, v in line.items() if k not in untold} for line in lines]


def assert_same_run(found, expected):
    assert smallrun.weights(found) == smallrun.weights(expected)
    assert without_clock(smallrun.metrics(found)) == without_clock(smallrun.metrics(expected))
    first, second = (json.loads((f / "tunesmith.json").read_text()) for f in (found, expected))
    assert first == second
    names = [sorted(p.name for p in f.glob("checkpoint-*")) for f in (found, expected)]
    assert names[0] == names[1]
    last = f"checkpoint-{STEPS}/state/optimizer.safetensors"
    assert (found / last).read_bytes() == (expected / last).read_bytes()


@pytest.mark.parametrize("step", [6, 21])
@pytest.mark.parametrize("name", METHODS)
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(ground, whole, tmp_path, name, step):
    path = write_yaml(tmp_path, config(ground, name))
    process = warm.start(tmp_path, "train", path)
    kill_at(process, tmp_path / "out", step)
    assert process.wait().code == -signal.SIGKILL
    assert not (tmp_path / "out/tunesmith.json").exists()
    again = warm.run(tmp_path, "train", path)
    assert (again.code, again.err) == (0, "")
    assert "going on from checkpoint-" in again.out
    assert_same_run(tmp_path / "out", whole[name])


def test_a_run_killed_again_and_again_ends_with_the_same_bytes(ground, whole, tmp_path):
    path = write_yaml(tmp_path, config(ground, "lora"))
    for step in (2, 9, 10, 17):
        process = warm.start(tmp_path, "train", path)
        kill_at(process, tmp_path / "out", step)
        assert process.wait().code == -signal.SIGKILL
    assert warm.run(tmp_path, "train", path).code == 0
    assert_same_run(tmp_path / "out", whole["lora"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_says_so_and_goes_on(ground, whole, tmp_path, number):
    path = write_yaml(tmp_path, config(ground, "lora", save_total_limit=None))
    process = warm.start(tmp_path, "train", path)
    kill_at(process, tmp_path / "out", 5, number)
    stopped = process.wait()
    assert stopped.code == 75
    assert f"stopped by {number.name} after step" in stopped.err
    assert "run the same command again" in stopped.err
    assert "Traceback" not in stopped.err
    last = step_lines(tmp_path / "out")[-1]["step"]
    assert (tmp_path / f"out/checkpoint-{last}").is_dir()
    again = warm.run(tmp_path, "train", path)
    assert (again.code, again.err) == (0, "")
    assert f"going on from checkpoint-{last}" in again.out
    assert smallrun.weights(tmp_path / "out") == smallrun.weights(whole["lora"])
    steps = [line["step"] for line in step_lines(tmp_path / "out")]
    assert steps == list(range(1, STEPS + 1))


def test_a_kill_after_the_last_step_leaves_only_the_export_to_do(ground, whole, tmp_path):
    """The results in the record come from before the kill."""
    before = (
        "import os, signal; from tunesmith.runs import train\n"
        "train.finish = lambda *a: os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = write_yaml(tmp_path, config(ground, "full"))
    assert warm.run(tmp_path, "train", path, before=before).code == -signal.SIGKILL
    again = warm.run(tmp_path, "train", path)
    assert (again.code, again.err) == (0, "")
    assert_same_run(tmp_path / "out", whole["full"])


@pytest.mark.parametrize("name", METHODS)
def test_a_named_checkpoint_is_gone_on_from(ground, whole, tmp_path, name):
    newest = sorted(whole[name].glob("checkpoint-*"), key=lambda p: int(p.name[11:]))
    chosen = newest[-2]
    path = write_yaml(tmp_path, config(ground, name, resume_from_checkpoint=str(chosen)))
    done = warm.run(tmp_path, "train", path)
    assert (done.code, done.err) == (0, "")
    assert smallrun.weights(tmp_path / "out") == smallrun.weights(whole[name])
    first = step_lines(tmp_path / "out")[0]["step"]
    assert first == int(chosen.name[11:]) + 1


def test_a_named_checkpoint_that_is_missing_is_refused(ground, tmp_path):
    path = write_yaml(tmp_path, config(ground, "lora", resume_from_checkpoint="nowhere"))
    done = warm.run(tmp_path, "train", path)
    assert done.code == 2
    assert "there is no checkpoint at nowhere" in done.err


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "state/optimizer.safetensors"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(ground, whole, tmp_path, file):
    path = write_yaml(tmp_path, config(ground, "lora"))
    process = warm.start(tmp_path, "train", path)
    kill_at(process, tmp_path / "out", 14)
    process.wait()
    *_, before, newest = sorted(
        (tmp_path / "out").glob("checkpoint-*"), key=lambda p: int(p.name[11:])
    )
    content = bytearray((newest / file).read_bytes())
    content[len(content) // 2] ^= 1
    (newest / file).write_bytes(content)
    again = warm.run(tmp_path, "train", path)
    assert (again.code, again.err) == (0, "")
    flat = " ".join(again.out.split())
    assert f"damaged, not used: {newest.name}: {file} was changed" in flat
    assert f"going on from {before.name}" in flat
    assert_same_run(tmp_path / "out", whole["lora"])


def test_a_named_checkpoint_that_is_damaged_is_refused(ground, whole, tmp_path):
    newest = shutil.copytree(
        whole["lora"] / f"checkpoint-{STEPS}", tmp_path / f"checkpoint-{STEPS}"
    )
    (newest / "state.json").write_text("{}")
    path = write_yaml(tmp_path, config(ground, "lora", resume_from_checkpoint=str(newest)))
    done = warm.run(tmp_path, "train", path)
    assert done.code == 5
    assert "the checkpoint is damaged" in done.err


@pytest.mark.parametrize("saving", [{}, {"save_steps": None, "save_strategy": "no"}])
def test_a_finished_run_says_so_and_is_left_alone(ground, tmp_path, saving):
    path = write_yaml(tmp_path, config(ground, "lora", max_steps=4, **saving))
    assert warm.run(tmp_path, "train", path).code == 0
    before = tree(tmp_path / "out")
    again = warm.run(tmp_path, "train", path)
    assert (again.code, again.err) == (0, "")
    assert "this run is finished already" in again.out
    after = tree(tmp_path / "out")
    del before[".tunesmith.lock"], after[".tunesmith.lock"]
    assert after == before


def test_a_finished_run_goes_on_where_more_steps_are_accepted(ground, tmp_path):
    path = write_yaml(tmp_path, config(ground, "lora", max_steps=4))
    assert warm.run(tmp_path, "train", path).code == 0
    more = ("train", path, "--max-steps", 8)
    refused = warm.run(tmp_path, *more)
    assert refused.code == 2
    accepted = warm.run(tmp_path, *more, "--accept-change", "max_steps")
    assert (accepted.code, accepted.err) == (0, "")
    assert [line["step"] for line in step_lines(tmp_path / "out")] == list(range(1, 9))
    assert json.loads((tmp_path / "out/tunesmith.json").read_text())["state"]["step"] == 8
