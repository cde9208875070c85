from __future__ import annotations

import warnings

import pytest
import torch

from tests.unit.engine.parts import Reports, build_run, weights_of
from tunesmith.checkpoint.state import TrainState
from tunesmith.engine.loop import fit
from tunesmith.engine.scaling import LossScale


def test_the_scale_moves_as_torchs_does():
    ours = LossScale("cpu", first=16.0, interval=3)
    theirs = torch.amp.GradScaler("cpu", init_scale=16.0, growth_interval=3)
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    bad_steps = {2, 3, 9}
    for step in range(14):
        is_bad = step in bad_steps
        loss = (weight * (torch.inf if is_bad else 1.0)).sum()
        theirs.scale(loss).backward()
        theirs.step(optimizer)
        theirs.update()
        optimizer.zero_grad()
        ours.update(torch.tensor(is_bad))
        assert float(ours.value) == theirs.get_scale(), step


def test_growing_and_shrinking_cancel():
    scale = LossScale("cpu", first=1024.0)
    weight = torch.nn.Parameter(torch.tensor([2.0, 3.0]))
    scale.grow((weight**2).sum()).backward()
    assert torch.equal(weight.grad, torch.tensor([4096.0, 6144.0]))
    scale.shrink([weight, torch.nn.Parameter(torch.ones(1))])
    assert torch.equal(weight.grad, torch.tensor([4.0, 6.0]))


def test_a_saved_scale_goes_on():
    first = LossScale("cpu", first=16.0, interval=2)
    first.update(torch.tensor(False))
    second = LossScale("cpu", interval=2)
    second.load(first.to_json())
    for is_bad in (False, True, False):
        first.update(torch.tensor(is_bad))
        second.update(torch.tensor(is_bad))
    assert second.to_json() == first.to_json() == {"value": 16.0, "good": 1}


def test_a_power_of_two_changes_nothing_in_float32(tmp_path):
    plain, scaled = Reports(), Reports()
    run = build_run(tmp_path, callbacks=[plain])
    other = build_run(tmp_path, callbacks=[scaled], scale=LossScale("cpu"))
    fit(run, TrainState())
    fit(other, TrainState())
    assert scaled.losses == plain.losses
    assert all(
        torch.equal(weights_of(run)[name], value) for name, value in weights_of(other).items()
    )


def test_steps_that_overflow_are_skipped_and_the_run_goes_on(tmp_path):
    run = build_run(tmp_path, scale=LossScale("cpu", first=2.0**127))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = fit(run, TrainState())
    assert 0 < state.counters["skipped_steps"] < run.cadence.steps
    assert float(run.scale.value) == 2.0 ** (127 - state.counters["skipped_steps"])


@pytest.mark.parametrize("parameters", [[], [torch.nn.Parameter(torch.ones(1))]])
def test_shrinking_nothing_is_fine(parameters):
    LossScale("cpu").shrink(parameters)
