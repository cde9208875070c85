from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch

from tunesmith.checkpoint.state import TrainState
from tunesmith.dist.mesh import Mesh
from tunesmith.engine.guard import SKIPS_IN_A_ROW, Guard
from tunesmith.engine.report import Reporter, StepFacts, StepReport, StepSums
from tunesmith.errors import ExitCode, RunError


def report(
    reporter: Reporter,
    *,
    step: int = 1,
    losses: Mapping[str, float] | None = None,
    metrics: Mapping[str, float] | None = None,
    totals: Mapping[str, float] | None = None,
    norm: float = 1.0,
) -> StepReport:
    facts = StepFacts(step, 0.5, 1e-3, 100, totals or {"tokens": 40.0})
    sums = StepSums(
        {name: torch.tensor(value) for name, value in (losses or {"tokens": 80.0}).items()},
        {name: torch.tensor(value) for name, value in (metrics or {}).items()},
    )
    return reporter(facts, sums, torch.tensor(norm))


def test_each_sum_is_divided_by_its_own_weight():
    made = report(
        Reporter(Mesh.single("cpu")),
        losses={"tokens": 80.0, "pairs": 3.0},
        totals={"pairs": 2.0, "tokens": 40.0},
        metrics={"correct": 10.0},
        norm=0.25,
    )
    assert made.parts == {"tokens": 2.0, "pairs": 1.5}
    assert made.loss == 3.5
    assert made.grad_norm == 0.25
    assert made.metrics == {"correct": 0.25}
    line = made.to_metrics()
    assert line["loss"] == 3.5
    assert line["loss/pairs"] == 1.5
    assert line["correct"] == 0.25
    assert {"learning_rate", "grad_norm", "tokens", "tokens_per_second", "epoch"} <= line.keys()


def test_a_sum_over_nothing_is_nothing_and_anything_else_is_bad():
    totals = {"pairs": 0.0, "tokens": 40.0}
    reporter = Reporter(Mesh.single("cpu"))
    assert report(reporter, losses={"tokens": 80.0, "pairs": 0.0}, totals=totals).loss == 2.0
    made = report(reporter, losses={"tokens": 80.0, "pairs": -1.0}, totals=totals)
    with pytest.raises(RunError, match="the loss is -inf"):
        reporter.watch(TrainState(), made)


def test_speed_is_tokens_over_seconds_since_the_step_before():
    reporter = Reporter(Mesh.single("cpu"))
    reporter.restart_clock()
    made = report(reporter)
    assert made.tokens_per_second == pytest.approx(100 / made.seconds)
    assert 0 < made.seconds < 5
    assert made.memory_bytes > 10_000_000


@pytest.mark.parametrize(
    ("losses", "norm", "words"),
    [
        ({"tokens": math.nan}, 1.0, ["the loss is nan"]),
        ({"tokens": 1.0}, math.inf, ["the gradient norm is inf"]),
        ({"tokens": -math.inf}, math.nan, ["the loss is -inf", "the gradient norm is nan"]),
    ],
)
def test_a_bad_number_is_named(losses, norm, words):
    reporter = Reporter(Mesh.single("cpu"))
    with pytest.raises(RunError, match="step 9 went bad") as caught:
        reporter.watch(TrainState(), report(reporter, step=9, losses=losses, norm=norm))
    assert caught.value.exit_code == ExitCode.NOT_FINITE
    for word in words:
        assert word in caught.value.message
    assert caught.value.message.count(" is ") == len(words)


def test_where_the_device_runs_ahead_the_step_before_is_read():
    # The reading order of an accelerator, on tensors that are there at once.
    reporter = Reporter(Mesh.single("meta"))
    state = TrainState()
    reporter.watch(state, report(reporter, step=1, norm=math.nan))
    with pytest.raises(RunError, match="step 1 went bad"):
        reporter.watch(state, report(reporter, step=2))


def test_settling_reads_the_last_step():
    reporter = Reporter(Mesh.single("meta"))
    state = TrainState()
    reporter.settle(state)
    reporter.watch(state, report(reporter, step=1, norm=math.nan))
    with pytest.raises(RunError, match="step 1 went bad"):
        reporter.settle(state)
    reporter.settle(state)


def test_a_loss_scale_tolerates_skips_but_not_for_ever():
    reporter = Reporter(Mesh.single("cpu"), guard=Guard(has_scale=True))
    state = TrainState()
    for step in range(3):
        reporter.watch(state, report(reporter, step=step, norm=math.inf))
    reporter.watch(state, report(reporter, step=3))
    assert state.counters == {"skipped_steps": 3}
    for step in range(SKIPS_IN_A_ROW - 1):
        reporter.watch(state, report(reporter, step=step, norm=math.inf))
    with pytest.raises(RunError, match="step 99 went bad"):
        reporter.watch(state, report(reporter, step=99, norm=math.inf))


def test_the_stop_flag_rides_on_the_collective():
    reporter = Reporter(Mesh.single("cpu"))
    state = TrainState()
    before = report(reporter, step=1)
    reporter.watch(state, before)
    reporter.stop.request("SIGTERM")
    after = report(reporter, step=2)
    reporter.watch(state, after)
    assert not before.stop_requested
    assert after.stop_requested
