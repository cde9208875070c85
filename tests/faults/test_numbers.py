"""Numbers that go bad in a whole run: stopped, left out, or gone back from, and written down."""

from __future__ import annotations

import json
import re

import pytest

from tests import warm
from tests.faults.runs import config
from tests.smallrun import step_lines, write_yaml
from tunesmith.checkpoint import layout

# Makes the loss of one step no number: {times} times, or whenever that step is made.
POISON = """
import math
from tunesmith.objectives.sft import Sft
real, left = Sft.loss, [{times}]
def loss(self, policy, batch, *more):
    made = real(self, policy, batch, *more)
    if batch.index[0] == {step} and policy.training and left[0]:
        left[0] -= 1
        made.sums["tokens"] = made.sums["tokens"] * math.nan
    return made
Sft.loss = loss
"""
SKIP = {"preflight_skip": ["resume", "loss", "invariance", "isolation", "longest", "coverage"]}


def run(ground, folder, *, step, times=-1, **keys):
    path = write_yaml(folder, config(ground, "lora", **SKIP, **keys))
    return warm.run(folder, "train", path, before=POISON.format(step=step, times=times))


def incidents(folder):
    return json.loads((folder / "out/ledger.json").read_text()).get("incidents", [])


def test_by_default_the_run_stops_and_says_where(ground, tmp_path):
    done = run(ground, tmp_path, step=7)
    assert done.code == 4
    said = " ".join(done.err.split())
    assert re.search(r"step 8 went bad: the loss is nan.*it arose in the loss `tokens`", said)
    assert re.search(r"with rows? .*chat_template\.jsonl:\d+", said)
    assert layout.survey(tmp_path / "out").newest.name == "checkpoint-6"
    assert incidents(tmp_path) == []


def test_a_skipped_step_is_in_the_ledger(ground, tmp_path):
    done = run(ground, tmp_path, step=7, on_nonfinite="skip")
    assert (done.code, done.err) == (0, "")
    (one,) = incidents(tmp_path)
    assert (one["steps"], one["action"]) == ([8], "skipped")
    assert one["what"] == "the loss is nan and the gradient norm is nan"
    assert all(re.search(r"chat_template\.jsonl:\d+$", row) for row in one["rows"])
    record = json.loads((tmp_path / "out/tunesmith.json").read_text())
    assert record["state"]["counters"] == {"skipped_steps": 1}


def test_a_rollback_passes_over_the_step_and_is_in_the_ledger(ground, tmp_path):
    done = run(ground, tmp_path, step=7, on_nonfinite="rollback")
    assert (done.code, done.err) == (0, "")
    assert "going back to checkpoint-6, its rows are passed over" in " ".join(done.out.split())
    (one,) = incidents(tmp_path)
    assert (one["steps"], one["action"]) == ([8], "rolled back to step 6")
    assert one["passed_over"] == [8]
    assert one["rows"]
    lines = [line["step"] for line in step_lines(tmp_path / "out")]
    assert lines == [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12]


@pytest.mark.faults
def test_a_rollback_and_a_skip_of_the_same_step_end_alike(ground, tmp_path):
    """The step was never applied in either: going back changes nothing but the way."""
    ends = {}
    for answer in ("skip", "rollback"):
        folder = tmp_path / answer
        folder.mkdir()
        assert run(ground, folder, step=7, on_nonfinite=answer).code == 0
        ends[answer] = (folder / "out/adapter_model.safetensors").read_bytes()
    assert ends["skip"] == ends["rollback"]


def test_without_a_checkpoint_there_is_nothing_to_go_back_to(ground, tmp_path):
    done = run(ground, tmp_path, step=1, on_nonfinite="rollback")
    assert done.code == 4
    assert "no checkpoint from before it to go back to" in " ".join(done.err.split())


@pytest.mark.faults
def test_a_spike_stops_or_is_rolled_back(ground, tmp_path):
    watched = {"loss_watchdog_threshold": 0.01, "loss_watchdog_patience": 5}
    done = run(ground, tmp_path, step=-1, **watched)
    assert done.code == 4
    said = " ".join(done.err.split())
    assert "the loss was above 0.01 in 5 steps in a row" in said
    folder = tmp_path / "back"
    folder.mkdir()
    done = run(ground, folder, step=-1, on_nonfinite="rollback", **watched)
    assert done.code == 4
    assert "no checkpoint from before it to go back to" in " ".join(done.err.split())
