"""A tracker in a process of its own: what it is told, and what it cannot do to the run."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import pytest
import torch

from tunesmith.tracking import outside
from tunesmith.tracking.ids import RunIds
from tunesmith.tracking.order import Order
from tunesmith.tracking.outside import Outside, Outsiders

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(outside, "PATIENCE", 0.8)


@pytest.fixture
def warned(caplog):
    caplog.set_level(logging.INFO, logger="tunesmith")
    return lambda: [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def started(kind, folder, ids=None, **settings):
    order = Order("Fake", f"tests.unit.tracking.fakes:{kind}", {})
    start = {"settings": settings, "config": {"learning_rate": 1e-4}}
    ids = ids or RunIds(folder / "ids.json", resumed=False)
    return Outside(order, start, folder, ids)


def ran(kind, folder, *, steps=3, patience=20.0, **settings):
    tracker = started(kind, folder, **settings)
    for step in range(1, steps + 1):
        tracker.log(step, {"loss": torch.tensor(1 / step), "eval_loss": float("nan")})
    tracker.end()
    tracker.wait(patience)
    return tracker


def test_a_service_hears_config_steps_and_the_end(tmp_path, warned, caplog):
    told = tmp_path / "told"
    ran("good", tmp_path, told=str(told))
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    assert lines[0] == ["asked", {"told": str(told)}, ""]  # nobody answers what it asks
    assert lines[1] == ["config", {"learning_rate": 1e-4}]
    assert [line[0] for line in lines[2:]] == [1, 2, 3, "finished"]
    assert lines[2][1]["train/loss"] == 1.0
    assert lines[2][1]["eval/loss"] != lines[2][1]["eval/loss"]
    assert warned() == []
    assert "Fake: https://pages.example/run-1" in caplog.text
    assert json.loads((tmp_path / "ids.json").read_text()) == {"good": "run-1"}
    assert "noise" in (tmp_path / "good.log").read_text()


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("wandb", "ConnectionError: no route to host"),
        ("disk_full", "OSError: [Errno 28] No space left on device"),
        ("dies", "its process ended with code 11"),
        ("missing", "cannot be loaded"),
    ],
)
def test_one_that_fails_is_one_warning(kind, why, tmp_path, warned):
    tracker = ran(kind, tmp_path)
    tracker.log(4, {"loss": 1.0})
    tracker.wait(1.0)
    (said,) = warned()
    assert said.startswith("Fake is left out from now on: ")
    assert why in said
    assert said.endswith("The run goes on; metrics.jsonl has all numbers")


@pytest.mark.parametrize("kind", ["hangs", "hangs_at_the_end"])
def test_those_that_hang_are_ended_together(kind, tmp_path, warned):
    trackers = [started(kind, tmp_path), started(kind, tmp_path)]
    pids = [tracker._process.pid for tracker in trackers]
    everyone = Outsiders(trackers)
    everyone.log(1, {"loss": 1.0})
    begun = time.monotonic()
    everyone.close()
    assert time.monotonic() - begun < 5.0
    assert len(warned()) == 2
    assert all("was not done" in said for said in warned())
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_slow_one_misses_steps_and_the_run_does_not_wait(tmp_path, warned, monkeypatch):
    monkeypatch.setattr(outside, "LINES", 4)
    tracker = started("hangs", tmp_path)
    begun = time.monotonic()
    for step in range(3000):  # more than queue and pipe hold
        tracker.log(step, {"loss": 1.0, "note": "x" * 200})
    assert time.monotonic() - begun < 2.0
    assert warned() == ["Fake is slower than the run: it misses some steps"]
    tracker.end()
    tracker.wait(0.1)
    assert len(warned()) == 2


def test_no_room_for_its_files_is_a_warning(tmp_path, warned):
    (tmp_path / "file").write_text("")
    tracker = started("good", tmp_path / "file")
    tracker.log(1, {"loss": 1.0})
    tracker.end()
    tracker.wait(1.0)
    (said,) = warned()
    assert "Fake is left out" in said


def test_a_process_is_no_rank_of_the_run(tmp_path, monkeypatch):
    seen = {}

    def popen(command, **more):
        seen.update(more["env"])
        raise OSError("enough")

    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(outside.subprocess, "Popen", popen)
    started("good", tmp_path)
    assert "PYTHONPATH" in seen
    assert not {"WORLD_SIZE", "LOCAL_RANK"} & set(seen)


def test_a_resumed_run_finds_its_ids(tmp_path):
    path = tmp_path / "ids.json"
    RunIds(path, resumed=False).keep("wandb", "abc")
    assert RunIds(path, resumed=True).get("wandb") == "abc"
    assert RunIds(path, resumed=False).get("wandb") == ""
    path.write_text("{")
    assert RunIds(path, resumed=True).get("wandb") == ""
