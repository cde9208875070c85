"""At every event of a save that rotates, a checkpoint that can be resumed lies on the disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.unit.checkpoint.parts import save_steps, small_model, store
from tunesmith.checkpoint import layout
from tunesmith.checkpoint.load import read
from tunesmith.checkpoint.state import TrainState
from tunesmith.errors import ExitCode, RunError

EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")
_listeners: list[Callable[[], None]] = []
_installed: list[bool] = []


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if event in EVENTS and _listeners:
        listener = _listeners.pop()  # what it does itself is not an event of the save
        try:
            listener()
        finally:
            _listeners.append(listener)


@contextmanager
def at_every_event(listener: Callable[[], None]) -> Iterator[None]:
    """Calls ``listener`` before each event: what it sees is what a kill there would leave."""
    if not _installed:  # an audit hook stays for the life of the process
        sys.addaudithook(_hear)
        _installed.append(True)
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def plain(folder: Path) -> None:
    save_steps(folder, 1, 2, 3)


def with_an_unfinished_one(folder: Path) -> None:
    save_steps(folder, 1, 2, 3)
    (folder / "checkpoint-3/manifest.json").unlink()


def with_a_damaged_one(folder: Path) -> None:
    save_steps(folder, 1, 2, 3)
    (folder / "checkpoint-3/model.safetensors").write_bytes(b"no weights")


def with_a_clock_set_back(folder: Path) -> None:
    save_steps(folder, 1, 2, 3)
    for age, step in enumerate((1, 2, 3)):
        os.utime(folder / f"checkpoint-{step}", (1e9 - age, 1e9 - age))


SITUATIONS = [plain, with_an_unfinished_one, with_a_damaged_one, with_a_clock_set_back]


@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("best", [None, 1])
def test_one_can_be_resumed_at_every_event(tmp_path, situation, keep, best):
    situation(tmp_path)
    newest = layout.survey(tmp_path).newest
    assert newest is not None
    seen: list[int] = []

    def look() -> None:
        whole = [p for p in layout.checkpoints(tmp_path) if layout.verify(p) is None]
        assert whole, f"nothing can be resumed before event {len(seen) + 1}"
        assert read(whole[0]).state.step >= layout.step_of(newest)
        if best is not None:
            assert tmp_path / f"checkpoint-{best}" in whole
        seen.append(layout.step_of(whole[0]))

    with at_every_event(look):
        store(tmp_path, keep=keep).save(TrainState(step=4, best=0.1, best_step=best))
    assert len(seen) > 20
    assert seen == sorted(seen)
    kept = [layout.step_of(path) for path in layout.checkpoints(tmp_path)]
    assert kept[:1] == [4]
    assert len(kept) <= keep + 1 + (best is not None)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_push_out_nothing(tmp_path, value):
    model = small_model()
    writer = store(tmp_path, model, keep=1)
    writer.save(TrainState(step=1))
    with torch.no_grad():
        model[1].bias[2] = value
    with pytest.raises(RunError, match=r"`1\.bias` is not finite after step 2") as caught:
        writer.save(TrainState(step=2))
    assert caught.value.exit_code == ExitCode.NOT_FINITE
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]
