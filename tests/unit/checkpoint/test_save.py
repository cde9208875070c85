from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.unit.checkpoint.parts import save_steps, small_model, small_optimizer, store
from tunesmith.checkpoint import durable, layout
from tunesmith.checkpoint.load import read, restore
from tunesmith.checkpoint.state import TrainState
from tunesmith.checkpoint.weights import MODEL, ModelFiles
from tunesmith.errors import ExitCode, RunError


def test_a_checkpoint_is_a_loadable_folder_with_the_state_beside(tmp_path):
    model = small_model()
    path = store(tmp_path, model, identity={"data": "abc"}, extra=lambda: {"scale": 2.0}).save(
        TrainState(step=7, tokens=100)
    )
    assert path == tmp_path / "checkpoint-7"
    names = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    assert names == [
        *("config.json", "manifest.json", "model.safetensors"),
        *("state.json", "state/optimizer.safetensors"),
    ]
    weights = load_file(path / "model.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    saved = read(path)
    assert saved.state == TrainState(step=7, tokens=100)
    assert saved.identity == {"data": "abc"}
    assert saved.extra == {"scale": 2.0}
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-7"]


def test_what_was_saved_comes_back_bit_by_bit(tmp_path):
    model = small_model()
    optimizer = small_optimizer(model, steps=3)
    store(tmp_path, model, optimizer=optimizer).save(TrainState(step=3))
    other = small_model(seed=1)
    other_optimizer = small_optimizer(other, steps=1)
    state = restore(
        read(tmp_path / "checkpoint-3"),
        load_weights=lambda tensors: other.load_state_dict(dict(tensors)),
        optimizer=other_optimizer,
    )
    assert state.step == 3
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
    restored = other_optimizer.state_tensors()
    assert restored.keys() == optimizer.state_tensors().keys()
    assert all(torch.equal(restored[n], v) for n, v in optimizer.state_tensors().items())


def test_weights_only_cannot_be_resumed(tmp_path):
    store(tmp_path, optimizer=None).save(TrainState(step=1))
    saved = read(tmp_path / "checkpoint-1")
    assert not (saved.path / "state").exists()
    model = small_model()
    with pytest.raises(RunError, match="weights only") as caught:
        restore(saved, load_weights=lambda tensors: None, optimizer=small_optimizer(model))
    assert caught.value.exit_code == ExitCode.WRONG_INPUT


def test_the_same_step_is_replaced(tmp_path):
    save_steps(tmp_path, 1)
    model = small_model(seed=5)
    store(tmp_path, model).save(TrainState(step=1))
    weights = dict(read(tmp_path / "checkpoint-1").tensors())
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-1"]


def test_rotation_keeps_the_newest_and_the_best(tmp_path):
    writer = store(tmp_path, keep=2)
    for step in range(1, 7):
        writer.save(TrainState(step=step, best=0.1, best_step=min(step, 2)))
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["checkpoint-2", "checkpoint-5", "checkpoint-6"]


def test_nothing_is_removed_when_the_new_one_cannot_be_read_back(tmp_path, monkeypatch):
    save_steps(tmp_path, 1, 2)
    rename = Path.replace

    def spoil(self: Path, target: Path) -> Path:
        if self.name == ".checkpoint-3.partial":
            with (self / "model.safetensors").open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"\xff")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", spoil)
    with pytest.raises(RunError, match=r"cannot be read back.*model\.safetensors") as caught:
        store(tmp_path, keep=1).save(TrainState(step=3))
    assert caught.value.exit_code == ExitCode.DAMAGED
    assert layout.find_newest_valid(tmp_path) == tmp_path / "checkpoint-2"
    assert (tmp_path / "checkpoint-1").is_dir()


def test_without_room_nothing_is_written(tmp_path, monkeypatch):
    save_steps(tmp_path, 1)
    usage = durable.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(durable.shutil, "disk_usage", lambda path: usage._replace(free=12345))
    with pytest.raises(RunError, match=r"bytes are needed and 12,345 are free") as caught:
        store(tmp_path).save(TrainState(step=2))
    assert caught.value.exit_code == ExitCode.NO_ROOM
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-1"]


def test_the_bytes_needed_are_those_that_are_written(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("tunesmith.checkpoint.save.require_room", lambda _, n: asked.append(n))
    path = store(tmp_path).save(TrainState(step=1))
    written = sum(p.stat().st_size for p in path.rglob("*.safetensors"))
    assert asked[0] <= written <= asked[0] + 4096  # headers


def test_a_disk_that_fills_up_on_the_way_leaves_nothing(tmp_path):
    save_steps(tmp_path, 1)

    def full(folder: Path) -> None:
        (folder / "half.json").write_text("{")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files = ModelFiles(lambda: small_model().state_dict().items(), MODEL, full)
    with pytest.raises(RunError, match="filled up") as caught:
        store(tmp_path, optimizer=None).__class__(tmp_path, files, None).save(TrainState(step=2))
    assert caught.value.exit_code == ExitCode.NO_ROOM
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-1"]


def test_only_tensors_are_saved_as_tensors(tmp_path):
    class Sneaky(type(small_optimizer(small_model()))):
        def state_tensors(self):
            return {"exp_avg.weight": torch.zeros(2), "step.weight": 3}

    model = small_model()
    sneaky = Sneaky(small_optimizer(model).inner, [1e-2])
    with pytest.raises(TypeError, match=r"step\.weight is int"):
        store(tmp_path, model, optimizer=sneaky).save(TrainState(step=1))
    assert list(tmp_path.iterdir()) == []


def test_an_optimizer_without_tensors_can_be_saved(tmp_path):
    model = small_model()
    names, parameters = zip(*model.named_parameters(), strict=True)
    inner = torch.optim.SGD([{"params": list(parameters), "names": list(names)}], lr=0.1)
    optimizer = type(small_optimizer(small_model()))(inner, [0.1])
    path = store(tmp_path, model, optimizer=optimizer).save(TrainState(step=1))
    restore(
        read(path),
        load_weights=lambda tensors: model.load_state_dict(dict(tensors)),
        optimizer=optimizer,
    )


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.unit.checkpoint.parts import save_steps, store
from tunesmith.checkpoint import durable, layout
from tunesmith.checkpoint.state import TrainState

def kill_at(moment):
    seen = 0
    def killing(function):
        def wrapped(*arguments, **options):
            nonlocal seen
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)
        return wrapped
    durable.os.fsync = killing(os.fsync)
    Path.replace = killing(Path.replace)
    Path.write_text = killing(Path.write_text)
    layout.shutil.rmtree = killing(layout.shutil.rmtree)

for moment in range(1, 200):
    folder = Path(sys.argv[1], str(moment))
    save_steps(folder, 1)
    child = os.fork()
    if child == 0:
        kill_at(moment)
        store(folder, keep=1).save(TrainState(step=2))
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


def test_a_kill_at_any_moment_of_a_save_leaves_a_valid_checkpoint(tmp_path):
    root = Path(__file__).parents[3]
    subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path],
        cwd=root,
        env=os.environ | {"PYTHONPATH": f"{root}/src"},
        check=True,
    )
    folders = sorted(tmp_path.iterdir(), key=lambda path: int(path.name))
    newest = [layout.find_newest_valid(folder) for folder in folders]
    for folder, found in zip(folders, newest, strict=True):
        assert found is not None, f"no valid checkpoint after a kill at moment {folder.name}"
        layout.sweep(folder)
        assert {p.name for p in folder.iterdir()} <= {"checkpoint-1", "checkpoint-2"}
    steps = [layout.step_of(found) for found in newest if found is not None]
    assert steps == sorted(steps)
    assert steps.count(1) >= 8
    assert steps.count(2) >= 3
    # The last attempt was not killed at all.
    assert [p.name for p in folders[-1].iterdir()] == ["checkpoint-2"]
