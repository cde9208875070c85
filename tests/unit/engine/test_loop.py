from __future__ import annotations

import os
import signal

import pytest
import torch

from tests.unit.engine.parts import (
    Reports,
    build_run,
    load_into,
    make_rows,
    order,
    tiny_llama,
    weights_of,
)
from tunesmith.checkpoint.layout import find_newest_valid
from tunesmith.checkpoint.load import read, restore
from tunesmith.checkpoint.state import TrainState
from tunesmith.engine.loop import fit
from tunesmith.engine.signals import STOPPING, listening
from tunesmith.errors import ExitCode, RunError


class Diary:
    """Writes down which events came, and at which step."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.results: list[dict[str, float]] = []

    def run_started(self, run, state):
        self.lines.append(f"started {state.step}")

    def step_finished(self, run, state, report):
        assert report.step == state.step
        self.lines.append(f"step {state.step}")

    def evaluated(self, run, state, result):
        self.results.append(dict(result))
        self.lines.append(f"evaluated {state.step}")

    def saved(self, run, state):
        assert (run.checkpoints.store.output_dir / f"checkpoint-{state.step}").is_dir()
        self.lines.append(f"saved {state.step}")

    def run_finished(self, run, state):
        self.lines.append(f"finished {state.step}")


def test_events_come_in_the_order_of_the_loop(tmp_path):
    diary = Diary()
    run = build_run(
        tmp_path,
        rows=make_rows(16),
        held_out=make_rows(5, seed=1),
        save={"steps": 3},
        evaluation={"steps": 2, "first": True},
        callbacks=[diary],
    )
    state = fit(run, TrainState())
    assert diary.lines == [
        *("started 0", "evaluated 0", "step 1", "step 2", "evaluated 2", "step 3", "saved 3"),
        *("step 4", "evaluated 4", "saved 4", "finished 4"),
    ]
    losses = [result["eval_loss"] for result in diary.results]
    assert state.best == min(losses)
    assert state.best_step == [0, 2, 4][losses.index(min(losses))]


def test_the_state_counts_tokens_and_epochs(tmp_path):
    rows = make_rows(24)
    state = fit(build_run(tmp_path, rows=rows, settings=order(epochs=2.0)), TrainState())
    assert state.step == 12
    assert state.epoch == pytest.approx(2.0)
    assert state.tokens == 2 * int(rows.lengths.sum())
    assert state.trained_tokens == pytest.approx(2 * float(rows.totals["tokens"].sum()))


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("stop_at", [1, 4, 7])
def test_a_resumed_run_is_bit_identical(tmp_path, dropout, stop_at):
    settings = order(epochs=2.0, packed=True)

    def build(folder, **more):
        return build_run(
            tmp_path / folder, model=tiny_llama(dropout=dropout), settings=settings, **more
        )

    whole = build("whole")
    final = fit(whole, TrainState())

    class Crash:
        def saved(self, run, state):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(build("cut", save={"steps": stop_at}, callbacks=[Crash()]), TrainState())

    found = find_newest_valid(tmp_path / "cut")
    assert found is not None
    assert found.name == f"checkpoint-{stop_at}"
    again = build("cut")
    with torch.no_grad():  # what is not restored must be seen
        for parameter in again.policy.parameters():
            parameter.fill_(0.5)
    saved = read(found)
    state = restore(
        saved,
        load_weights=lambda tensors: load_into(again.policy.model, tensors),
        optimizer=again.optimizer,
    )
    assert fit(again, state) == final
    for name, value in weights_of(whole).items():
        assert torch.equal(weights_of(again)[name], value), name


def test_a_finished_run_does_nothing_more(tmp_path):
    reports = Reports()
    run = build_run(tmp_path, callbacks=[reports])
    before = weights_of(run)
    fit(run, TrainState(step=run.cadence.steps))
    assert reports.losses == []
    assert all(torch.equal(before[name], value) for name, value in weights_of(run).items())


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_lets_the_step_finish_and_saves_it(tmp_path, number):
    class Shoot:
        def step_finished(self, run, state, report):
            if state.step == 2:
                os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    diary = Diary()
    run = build_run(
        tmp_path,
        held_out=make_rows(3, seed=1),
        evaluation={"steps": 3},
        callbacks=[Shoot(), diary],
    )
    with listening(run.report.stop), pytest.raises(RunError, match=number.name) as caught:
        fit(run, TrainState())
    assert caught.value.exit_code == ExitCode.STOPPED
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-2"]
    assert read(tmp_path / "checkpoint-2").state.step == 2
    assert signal.getsignal(number) is handler
    assert diary.lines[-2:] == ["step 2", "saved 2"]


def test_a_signal_after_the_last_step_is_a_finished_run(tmp_path):
    class Shoot:
        def step_finished(self, run, state, report):
            run.report.stop.request("SIGTERM")

    run = build_run(tmp_path, rows=make_rows(4), callbacks=[Shoot()])
    assert fit(run, TrainState()).step == 1


class Asking:
    """A model whose forward number ``at`` is asked to stop, in the middle of what it belongs to."""

    def __init__(self, run, at):
        self.left, self.run = at, run
        run.policy.model.register_forward_pre_hook(self)
        run.policy.model.model.register_forward_pre_hook(self)

    def __call__(self, module, inputs):
        self.left -= 1
        if self.left == 0:
            self.run.report.stop.request("SIGTERM")


def test_a_step_is_left_at_the_next_micro_batch(tmp_path):
    """Its gradient is forgotten, the step before it is saved, and the run that goes on is whole."""
    settings = order(accumulation=4, epochs=2.0)
    whole = build_run(tmp_path / "whole", settings=settings)
    final = fit(whole, TrainState())
    run = build_run(tmp_path / "cut", settings=settings)
    Asking(run, 10)  # the second of the four micro-batches of step 3
    state = TrainState()
    with pytest.raises(RunError, match="stopped by SIGTERM after step 2") as caught:
        fit(run, state)
    assert caught.value.exit_code == ExitCode.STOPPED
    assert all(parameter.grad is None for parameter in run.policy.parameters())
    again = build_run(tmp_path / "cut", settings=settings)
    found = restored(again, tmp_path / "cut")
    assert found.step == 2
    assert fit(again, found) == final
    for name, value in weights_of(whole).items():
        assert torch.equal(weights_of(again)[name], value), name


def test_an_evaluation_that_was_left_is_made_up_for(tmp_path):
    more = {"held_out": make_rows(9, seed=1), "evaluation": {"steps": 2}, "save": {"steps": 4}}
    diary, whole = Diary(), build_run(tmp_path / "whole", **more)
    final = fit(whole, TrainState())
    run = build_run(tmp_path / "cut", callbacks=[diary], **more)
    Asking(run, 6)  # two micro-batches a step, then the second batch of the evaluation
    with pytest.raises(RunError, match="after step 2"):
        fit(run, TrainState())
    assert diary.lines[-2:] == ["step 2", "saved 2"]
    diary = Diary()
    again = build_run(tmp_path / "cut", callbacks=[diary], **more)
    state = restored(again, tmp_path / "cut")
    assert fit(again, state) == final
    assert diary.lines[:2] == ["started 2", "evaluated 2"]


def test_without_a_finished_step_there_is_nothing_to_save(tmp_path):
    run = build_run(tmp_path)
    run.report.stop.request("SIGTERM")
    with pytest.raises(RunError, match="after step 0"):
        fit(run, TrainState())
    assert not list(tmp_path.iterdir())


def restored(run, folder):
    found = find_newest_valid(folder)
    return restore(
        read(found),
        load_weights=lambda tensors: load_into(run.policy.model, tensors),
        optimizer=run.optimizer,
    )
