"""Trackers of whole runs: they change nothing of a run, and hear no secret."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, get_args

import pytest

from tests import smallrun
from tunesmith.config.preflight import ProbeName
from tunesmith.config.read import load
from tunesmith.errors import ConfigError
from tunesmith.launch import local
from tunesmith.runs.sent import sent, short_name
from tunesmith.runs.watchers import Watchers
from tunesmith.tracking import outside, services

ROOT = Path(__file__).parents[3]
CANARY = "canary-8b1f0c7e"
ALL = {
    "use_tensorboard": True,
    "wandb_project": "p",
    "mlflow_experiment_name": "e",
    "comet_project_name": "c",
    "swanlab_project": "s",
    "trackio_project_name": "t",
}
QUICK: dict[str, Any] = {
    "preflight_skip": list(get_args(ProbeName)),
    "max_steps": 3,
    "val_set_size": 4,
}


@pytest.fixture
def run(ground, tmp_path, monkeypatch):
    """Train with these keys; the folder, and the steps' lines without what depends on time."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))

    def start(name: str, **changes: Any) -> tuple[Path, list[dict[str, Any]]]:
        keys = smallrun.keys(ground / "base", ground / "chat_template.jsonl", **QUICK | changes)
        folder = tmp_path / name
        local.start(load(keys | {"output_dir": str(folder)}).config, Watchers())
        measured = {"seconds", "tokens_per_second", "memory_bytes"}
        lines = smallrun.metrics(folder)
        return folder, [{k: v for k, v in line.items() if k not in measured} for line in lines]

    return start


@pytest.fixture
def faked(monkeypatch):
    """Every service is a fake that goes wrong in its own way (TensorBoard's is a good one)."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(services, "CLIENTS", "tests.unit.tracking.fakes")
    monkeypatch.setattr(services, "find_spec", lambda name: object())
    monkeypatch.setattr(outside, "PATIENCE", 1.0)


def test_trackers_that_raise_hang_die_and_find_no_room_change_nothing(run, faked, caplog):
    caplog.set_level(logging.WARNING, logger="tunesmith")
    plain, lines = run("plain")
    assert caplog.records == []
    tracked, same = run("tracked", **ALL)
    assert same == lines
    assert smallrun.weights(tracked) == smallrun.weights(plain)
    said = sorted(record.getMessage() for record in caplog.records)
    assert [text.partition(" is left out")[0] for text in said] == [
        *("Comet", "MLflow", "SwanLab", "Trackio", "Weights & Biases")
    ]


def test_a_tracker_hears_no_secret(run, faked, monkeypatch, ground, tmp_path):
    heard: list[str] = []
    started = outside.Outside.__init__

    def listen(self, order, start, *more):
        heard.append(json.dumps([dict(order.settings), dict(order.env), start]))
        started(self, order, start, *more)

    monkeypatch.setattr(outside.Outside, "__init__", listen)
    monkeypatch.setenv("SOME_API_KEY", CANARY)
    hidden = tmp_path / f"home-{CANARY}"
    hidden.mkdir()
    rows = (ground / "chat_template.jsonl").read_text()
    (hidden / "rows.jsonl").write_text(rows)
    run(
        "tracked",
        use_tensorboard=True,
        datasets=[{"path": str(hidden / "rows.jsonl"), "type": "chat_template"}],
        dataset_prepared_path=str(hidden / "prepared"),
        chat_template_kwargs={"note": CANARY},
    )
    (payload,) = heard
    assert CANARY not in payload
    assert '"datasets": "rows.jsonl"' in payload
    assert '"learning_rate": 0.01' in payload
    assert '"base_model": "base"' in payload


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B"),
        ("gpt2", "gpt2"),
        ("/models/mine", "mine"),
        ("./data/rows.jsonl", "rows.jsonl"),
        ("s3://key:secret@bucket/a/rows.jsonl", "rows.jsonl"),
        ("https://host/rows.jsonl?token=secret", "rows.jsonl"),
    ],
)
def test_of_a_place_its_name_is_told(path, name):
    assert short_name(path) == name


def test_what_is_sent_is_plain(ground, monkeypatch, tmp_path):
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path))
    args = {"optim_args": {"amsgrad": True}, "lora_modules_to_save": [CANARY], "warmup_steps": 2}
    keys = smallrun.keys(ground / "base", ground / "chat_template.jsonl", **QUICK | args)
    plan, _ = local.draft(load(keys).config, exact=True)
    told = sent(plan)
    assert told["steps"] == 3
    assert told["warmup_steps"] == 2
    assert told["optimizer"] == "adamw_torch"
    assert all(isinstance(value, bool | int | float | str) for value in told.values())
    assert CANARY not in json.dumps(told)


def test_a_missing_package_is_told_before_anything_is_prepared(run, monkeypatch, tmp_path):
    monkeypatch.setattr(services, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="not installed: wandb"):
        run("tracked", wandb_project="p")
    assert not (tmp_path / "cache").exists()


def test_tensorboard_has_the_numbers_of_the_metrics_file(run):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder, lines = run("tracked", use_tensorboard=True)
    events = accumulator.EventAccumulator(str(folder / "runs"))
    events.Reload()
    told = [(e.step, e.value) for e in events.Scalars("train/loss")]
    wanted = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    assert [step for step, _ in told] == [step for step, _ in wanted] == [1, 2, 3]
    assert [v for _, v in told] == pytest.approx([v for _, v in wanted], rel=1e-6)
    (held_out,) = events.Scalars("eval/loss")
    assert held_out.value == pytest.approx(lines[-1]["eval_loss"], rel=1e-6)
