"""Room for a whole run: how many checkpoints lie there at once, and how large one will be."""

from __future__ import annotations

import pytest
import torch

from tests.unit.checkpoint.parts import save_steps
from tunesmith.checkpoint import durable
from tunesmith.checkpoint.space import Demand, require_room_for_run
from tunesmith.checkpoint.weights import n_bytes
from tunesmith.config.optim import OptimSection
from tunesmith.errors import ExitCode, RunError
from tunesmith.optim.build import build_optimizer
from tunesmith.optim.groups import build_groups

ROOM = durable.SPARE_BYTES


def demand(**changes: object) -> Demand:
    usual = {"checkpoint": 100, "final": 40, "saves": 10, "keep": 2, "has_best": False}
    return Demand(**(usual | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 3),
        ({"has_best": True}, 4),
        ({"keep": None}, 10),
        ({"saves": 2}, 2),
        ({"saves": 0}, 0),
    ],
)
def test_how_many_lie_there_at_once(changes, expected):
    assert demand(**changes).at_once() == expected
    assert demand(**changes).n_bytes() == 100 * expected + 40


def test_what_does_not_fit_is_refused_with_both_numbers(tmp_path, monkeypatch):
    usage = durable.shutil.disk_usage(tmp_path)
    free = ROOM + 340
    monkeypatch.setattr(durable.shutil, "disk_usage", lambda path: usage._replace(free=free))
    require_room_for_run(tmp_path, demand())
    with pytest.raises(RunError, match=f"{free + 1:,} bytes are needed and {free:,} are") as caught:
        require_room_for_run(tmp_path, demand(final=41))
    assert caught.value.exit_code == ExitCode.NO_ROOM


def test_checkpoints_that_are_there_need_no_room_again(tmp_path, monkeypatch):
    save_steps(tmp_path, 1)
    made = sum(p.stat().st_size for p in (tmp_path / "checkpoint-1").rglob("*") if p.is_file())
    usage = durable.shutil.disk_usage(tmp_path)
    free = ROOM + 2 * made
    monkeypatch.setattr(durable.shutil, "disk_usage", lambda path: usage._replace(free=free))
    require_room_for_run(tmp_path, demand(checkpoint=made, final=0))
    with pytest.raises(RunError, match="no room left"):
        require_room_for_run(tmp_path, demand(checkpoint=made, final=1))


@pytest.mark.parametrize("name", ["adamw_torch", "sgd", "adamw_bnb_8bit"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_state_is_as_large_as_expected(name, dtype):
    model = torch.nn.Sequential(torch.nn.Linear(256, 300), torch.nn.Linear(300, 64)).to(dtype)
    section = OptimSection(optimizer=name, learning_rate=1e-3, weight_decay=0.1)
    optimizer = build_optimizer(build_groups(model, section), section, "cpu")
    expected = optimizer.expected_bytes()
    assert not optimizer.state_tensors()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    real = sum(map(n_bytes, optimizer.state_tensors().values()))
    assert expected == pytest.approx(real, rel=0.1, abs=64)
