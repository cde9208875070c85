"""Trackers: a line a step, whole after a kill, and no line twice after a resume."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch

from tunesmith.errors import ExitCode, RunError
from tunesmith.tracking.build import build_trackers
from tunesmith.tracking.trackers import JsonLines, ListTracker


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "metrics.jsonl"


def write(path, steps, resumed_step=0, **more):
    tracker = JsonLines(path, resumed_step=resumed_step)
    for step in steps:
        tracker.log(step, {"loss": 1 / step, **more})
    tracker.close()


def test_each_line_is_on_the_disk_when_logged(path):
    tracker = JsonLines(path)
    tracker.log(1, {"loss": 0.5})
    assert lines(path) == [{"step": 1, "loss": 0.5}]
    tracker.log(2, {"loss": 0.25, "note": "x"})
    assert lines(path)[1] == {"step": 2, "loss": 0.25, "note": "x"}
    tracker.close()
    tracker.close()


def test_a_resumed_run_drops_the_lines_that_it_writes_again(path):
    write(path, range(1, 8), run=1)
    write(path, range(5, 8), resumed_step=4, run=2)
    assert [(line["step"], line["run"]) for line in lines(path)] == [
        *((step, 1) for step in range(1, 5)),
        *((step, 2) for step in range(5, 8)),
    ]


def test_a_fresh_run_starts_an_empty_file(path):
    write(path, range(1, 4), run=1)
    write(path, [1], run=2)
    assert [line["run"] for line in lines(path)] == [2]


def test_a_line_that_was_cut_off_is_dropped(path):
    write(path, [1, 2])
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    write(path, [3], resumed_step=2)
    assert [line["step"] for line in lines(path)] == [1, 2, 3]


def test_a_broken_line_in_the_middle_is_named_and_kept(path):
    write(path, [1, 2])
    content = path.read_text() + "garbage\n" + '{"step": 3}\n'
    path.write_text(content)
    with pytest.raises(RunError, match="cannot be read") as caught:
        JsonLines(path, resumed_step=2)
    assert caught.value.where.endswith("metrics.jsonl:3")
    assert caught.value.exit_code is ExitCode.DAMAGED
    assert path.read_text() == content


def test_lines_are_dropped_by_replacing_the_file_as_a_whole(path, monkeypatch):
    write(path, range(1, 6))
    before = path.read_text()

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        JsonLines(path, resumed_step=2)
    assert path.read_text() == before


def test_numbers_of_torch_and_numpy_become_numbers(path):
    tracker = JsonLines(path)
    tracker.log(1, {"a": torch.tensor(1.5), "b": np.float64(2.5), "c": np.int64(3), "d": None})
    tracker.close()
    assert lines(path) == [{"step": 1, "a": 1.5, "b": 2.5, "c": 3, "d": None}]


def test_what_is_not_finite_is_still_json(path):
    tracker = JsonLines(path)
    tracker.log(1, {"a": float("nan"), "b": torch.tensor(float("inf")), "c": -float("inf")})
    tracker.close()
    strict = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert strict == {"step": 1, "a": "nan", "b": "inf", "c": "-inf"}


def test_a_list_keeps_everything_until_it_is_closed():
    tracker = ListTracker()
    metrics = {"loss": 1.0}
    tracker.log(3, metrics)
    metrics["loss"] = 2.0
    assert tracker.records == [(3, {"loss": 1.0})]
    tracker.close()
    with pytest.raises(ValueError, match="closed"):
        tracker.log(4, {})


def test_a_run_always_has_its_metrics_file(tmp_path):
    from tunesmith.config.tracking import TrackingSection

    (tracker,) = build_trackers(TrackingSection(), tmp_path, resumed_step=0)
    tracker.log(1, {"loss": 1.0})
    tracker.close()
    assert lines(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 1.0}]
