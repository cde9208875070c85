"""The same run again, and with threads that collate ahead: the same bytes, as the plan declares."""

from __future__ import annotations

import json

import pytest

from tests import smallrun, warm
from tests.faults.runs import config
from tests.smallrun import step_lines, write_yaml


def test_what_the_plan_declares_is_in_the_record(ground, whole, tmp_path):
    record = json.loads((whole("lora") / "tunesmith.json").read_text())
    planned = warm.run(tmp_path, "plan", write_yaml(tmp_path, config(ground, "lora")))
    assert planned.code == 0
    said = " ".join(planned.out.split())
    assert f"determinism {record['determinism']} " in said
    assert record["determinism"] == "exact"


@pytest.mark.parametrize(
    ("name", "workers"),
    [
        ("lora", 2),
        *(pytest.param("lora", n, marks=pytest.mark.faults) for n in (0, 4)),
        *(pytest.param("full", n, marks=pytest.mark.faults) for n in (0, 2, 4)),
        *(pytest.param("qlora", n, marks=pytest.mark.faults) for n in (0, 2, 4)),
    ],
)
def test_the_same_run_with_so_many_workers_ends_with_the_same_bytes(
    ground, whole, tmp_path, name, workers
):
    path = write_yaml(tmp_path, config(ground, name, dataloader_num_workers=workers))
    done = warm.run(tmp_path, "train", path)
    assert (done.code, done.err) == (0, "")
    assert smallrun.weights(tmp_path / "out") == smallrun.weights(whole(name))
    losses = [[line["loss"] for line in step_lines(f)] for f in (tmp_path / "out", whole(name))]
    assert losses[0] == losses[1]
