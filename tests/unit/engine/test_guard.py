"""Stop, skip, roll back: what is done about a bad step, and what is written down."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from tests.unit.engine.parts import Reports, build_run, order, tiny_llama, weights_of
from tunesmith.checkpoint.state import TrainState
from tunesmith.engine.guard import SKIPS_IN_A_ROW, Guard, LossSpike, NotFinite, Spike
from tunesmith.engine.loop import fit
from tunesmith.errors import ExitCode


@dataclass
class Report:
    step: int
    loss: float = 1.0
    grad_norm: float = 1.0


class Book(list):
    add = list.append


def test_a_skipped_step_is_counted_and_its_rows_are_written_down():
    book, state = Book(), TrainState()
    guard = Guard("skip", incidents=book, rows_of=lambda step: [f"rows.jsonl:{step}"])
    guard.judge(state, Report(1))
    guard.judge(state, Report(2, loss=math.nan))
    assert state.counters == {"skipped_steps": 1, "skipped_in_a_row": 1}
    guard.judge(state, Report(3))
    assert state.counters == {"skipped_steps": 1}
    what = "the loss is nan"
    assert book == [{"steps": [2], "what": what, "action": "skipped", "rows": ["rows.jsonl:1"]}]


@pytest.mark.parametrize("guard", [Guard("skip"), Guard(has_scale=True)])
def test_skipping_ends_when_nothing_helps(guard):
    state = TrainState()
    for step in range(1, SKIPS_IN_A_ROW):
        guard.judge(state, Report(step, grad_norm=math.inf))
    with pytest.raises(NotFinite) as caught:
        guard.judge(state, Report(SKIPS_IN_A_ROW, grad_norm=math.inf))
    assert caught.value.exit_code == ExitCode.NOT_FINITE


def test_what_a_loss_scale_skips_is_no_incident():
    book = Book()
    Guard(has_scale=True, incidents=book).judge(TrainState(), Report(1, grad_norm=math.inf))
    assert book == []


def test_high_losses_in_a_row_are_too_many():
    guard, state = Guard(spike=Spike(2.0, 3)), TrainState()
    for step, loss in enumerate([3.0, 3.0, 2.0, 3.0, 3.0], start=1):  # 2.0 is not above 2.0
        guard.judge(state, Report(step, loss=loss))
    assert state.counters == {"high_losses": 2}
    with pytest.raises(LossSpike, match="above 2 in 3 steps in a row, up to 4 in step 6") as caught:
        guard.judge(state, Report(6, loss=4.0))
    assert caught.value.steps == (4, 5, 6)
    assert caught.value.exit_code == ExitCode.NOT_FINITE


def test_rolling_back_is_remembered_and_ends():
    book = Book()
    for number in range(3):
        guard = Guard("rollback", incidents=book)  # the process may be another one each time
        assert guard.may_roll_back
        guard.rolled_back(NotFinite(7 + number, "bad"), to=4)
    guard = Guard("rollback", incidents=book)
    assert not guard.may_roll_back
    assert [step for step in range(12) if guard.passes_over(step)] == [7, 8, 9]
    assert book[0] == {
        "steps": [7],
        "what": "bad",
        "action": "rolled back to step 4",
        "rows": [],
        "passed_over": [7],
    }


class Poison:
    """A loss that is not a number in one step (from 0), as often as that is made."""

    def __init__(self, run, step):
        inner = run.objective.loss

        def loss(policy, batch, *more):
            made = inner(policy, batch, *more)
            if batch.index[0] == step:
                made.sums["tokens"] = made.sums["tokens"] * math.nan
            return made

        self.loss = loss


def poisoned(run, step):
    object.__setattr__(run.forward_backward, "objective", Poison(run, step))
    return run


def test_skipping_trains_as_if_the_step_had_not_been(tmp_path):
    settings = order(epochs=2.0)
    reports = Reports()
    guard = Guard("skip")
    run = poisoned(
        build_run(tmp_path / "a", settings=settings, guard=guard, callbacks=[reports]), 3
    )
    before = []
    run.events.callbacks = (*run.events.callbacks, Weights(before))
    state = fit(run, TrainState())
    assert state.step == run.cadence.steps
    assert state.counters == {"skipped_steps": 1}
    assert math.isnan(reports.losses[3])
    assert all(torch.equal(before[2][name], before[3][name]) for name in before[2])
    assert not all(torch.equal(before[3][name], before[4][name]) for name in before[3])
    assert all(torch.isfinite(value).all() for value in weights_of(run).values())


class Weights:
    def __init__(self, seen):
        self.seen = seen

    def step_finished(self, run, state, report):
        self.seen.append(weights_of(run))


def test_a_step_that_is_passed_over_leaves_no_trace(tmp_path):
    """Neither weights nor moments nor counts of tokens: the next step is as without it."""
    guard = Guard("rollback")
    guard.rolled_back(NotFinite(4, "bad"), to=2)
    reports, skipped = Reports(), Reports()
    passed = build_run(tmp_path / "a", guard=guard, callbacks=[reports], model=tiny_llama())
    fit(passed, TrainState())
    other = poisoned(
        build_run(tmp_path / "b", guard=Guard("skip"), callbacks=[skipped], model=tiny_llama()), 3
    )
    fit(other, TrainState())
    assert reports.losses == [*skipped.losses[:3], *skipped.losses[4:]]
    assert all(torch.equal(v, weights_of(other)[n]) for n, v in weights_of(passed).items())
