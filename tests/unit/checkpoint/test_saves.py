"""Saves in the background: never torn, the same bytes, and their errors are heard."""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.unit.checkpoint.parts import small_model, small_optimizer, store
from tunesmith.checkpoint import durable, layout
from tunesmith.checkpoint.load import read
from tunesmith.checkpoint.saves import Saves
from tunesmith.checkpoint.state import TrainState
from tunesmith.errors import ExitCode, RunError


class Gate:
    """Holds a background write where it fsyncs first, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened, self.reached = threading.Event(), threading.Event()
        real = durable.force_tree_to_disk

        def waiting(folder: Path) -> None:
            self.reached.set()
            assert self.opened.wait(30)
            real(folder)

        monkeypatch.setattr(durable, "force_tree_to_disk", waiting)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_is_stepped_on_after_the_save_is_not_in_it(tmp_path, monkeypatch):
    model = small_model()
    optimizer = small_optimizer(model)
    writer = store(tmp_path / "at-once", model, optimizer=optimizer)
    writer.save(TrainState(step=4))
    gate = Gate(monkeypatch)
    state = TrainState(step=4, counters={})
    later = replace(writer, output_dir=tmp_path / "later")
    with Saves(later, in_background=True) as saves:
        saves.save(state)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(9.0)
            for tensor in optimizer.state_tensors().values():
                tensor.fill_(9.0)
        state.step, state.counters["skipped_steps"] = 5, 1
        assert saves.written() == []
        gate.opened.set()
        assert [one.step for one in saves.written(wait=True)] == [4]
    name = "checkpoint-4"
    assert contents(tmp_path / "later" / name) == contents(tmp_path / "at-once" / name)


def test_the_next_save_waits_for_the_one_before(tmp_path, monkeypatch):
    gate = Gate(monkeypatch)
    with Saves(store(tmp_path), in_background=True) as saves:
        saves.save(TrainState(step=1))
        assert gate.reached.wait(30)
        assert layout.checkpoints(tmp_path) == []
        gate.opened.set()
        saves.save(TrainState(step=2))
        assert layout.find_newest_valid(tmp_path) is not None
        assert saves.last_step == 2
    assert [p.name for p in layout.checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-1"]
    assert read(tmp_path / "checkpoint-2").state.step == 2


def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(durable, "force_tree_to_disk", fail)


@pytest.mark.parametrize("asked", ["save", "written", "exit"])
def test_an_error_in_the_background_is_heard_at_the_next_call(tmp_path, monkeypatch, asked):
    saves = Saves(store(tmp_path), in_background=True)
    failing(monkeypatch)

    def body() -> None:
        with saves:
            saves.save(TrainState(step=1))
            if asked == "save":
                saves.save(TrainState(step=2))
            elif asked == "written":
                saves.written(wait=True)

    with pytest.raises(RunError, match="filled up") as caught:
        body()
    assert caught.value.exit_code == ExitCode.NO_ROOM
    assert list(tmp_path.iterdir()) == []
    assert saves.written(wait=True) == []  # told once


def test_it_does_not_hide_an_error_of_the_run(tmp_path, monkeypatch):
    failing(monkeypatch)

    def body() -> None:
        with Saves(store(tmp_path), in_background=True) as saves:
            saves.save(TrainState(step=1))
            raise KeyError("the run's own")

    with pytest.raises(KeyError) as caught:
        body()
    assert "filled up" in caught.value.__notes__[0]


def test_at_once_a_save_is_written_when_it_returns(tmp_path):
    with Saves(store(tmp_path)) as saves:
        saves.save(TrainState(step=3))
        assert layout.verify(tmp_path / "checkpoint-3") is None
        assert [one.step for one in saves.written()] == [3]
        assert saves.written() == []
