"""``fit``: step, report, evaluate, save, stop."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.checkpoint.state import TrainState
from tunesmith.engine.evaluate import evaluate
from tunesmith.engine.run import Run
from tunesmith.engine.signals import Abandoned
from tunesmith.engine.step import train_step
from tunesmith.errors import ExitCode, RunError

OWED = "evaluation_owed"
"""The counter of an evaluation that a stop has cut off: a run that goes on makes up for it."""


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A step that is not made: its rows train nothing."""

    step: int
    epoch: float
    tokens: int = 0
    trained_tokens: float = 0.0


def fit(run: Run, state: TrainState) -> TrainState:
    """The state after the last step. Where ``state.step`` is not 0 the run goes on from there.

    Raises:
        RunError: exit 4, a number is not finite; exit 75, a signal asked to stop (a checkpoint of
            the last finished step was written); exit 3 and 5 from saving.
    """
    run.events.run_started(run, state)
    is_cut_short = False
    with run.checkpoints, run.report.stop.patiently():
        try:
            _evaluate_if_due(run, state, is_start=True)
            run.report.restart_clock()
            for microbatches in run.stream.from_step(state.step):
                if run.report.guard.passes_over(state.step + 1):
                    state.advance(_passed_over(run, state))
                else:
                    report = train_step(run, state, microbatches)
                    state.advance(report)
                    run.report.watch(state, report)
                    run.stream.policy_updated(state.step, run.policy)
                    run.events.step_finished(run, state, report)
                    # Who is asked to stop has seconds left: nothing is evaluated.
                    is_cut_short = report.stop_requested and state.step < run.cadence.steps
                if is_cut_short:
                    _owe_evaluation(run, state)
                    break
                _evaluate_if_due(run, state)
                _save_if_due(run, state)
        except Abandoned:
            run.optimizer.zero_grad()
            is_cut_short = True
        if is_cut_short:
            _save_for_later(run, state)
            raise _stopped(run, state)
        run.report.settle(state)
        _tell_saved(run, wait=True)
    run.events.run_finished(run, state)
    return state


def _passed_over(run: Run, state: TrainState) -> PassedOver:
    return PassedOver(state.step + 1, run.stream.epoch_at(state.step + 1))


def _evaluate_if_due(run: Run, state: TrainState, *, is_start: bool = False) -> None:
    """Look at the held-out data if it is time, remember the best, tell everybody."""
    is_resumed = is_start and state.step > 0
    if not (OWED in state.counters if is_resumed else run.cadence.evaluate(state)):
        return
    run.report.settle(state)
    _owe_evaluation(run, state)
    result = evaluate(run)
    state.counters.pop(OWED, None)
    state.evaluated(result["eval_loss"])
    run.events.evaluated(run, state, result)
    run.report.restart_clock()


def _owe_evaluation(run: Run, state: TrainState) -> None:
    """Note that this step's evaluation is not done, if there is one: a stop may come."""
    if state.step > 0 and (run.cadence.evaluate(state) or OWED in state.counters):
        state.counters[OWED] = 1


def _save_if_due(run: Run, state: TrainState) -> None:
    """Save if it is time; tell of every checkpoint that has come to be whole."""
    _tell_saved(run)
    if run.cadence.save(state):
        _save(run, state)
        run.report.restart_clock()


def _save_for_later(run: Run, state: TrainState) -> None:
    """Save the last finished step, unless that was done."""
    if run.checkpoints.last_step != state.step and state.step > 0:
        _save(run, state)
    _tell_saved(run, wait=True)


def _save(run: Run, state: TrainState) -> None:
    """Begin a checkpoint and, where it is written at once, tell everybody."""
    run.report.settle(state)
    with run.served_weights():
        run.checkpoints.save(state)
    _tell_saved(run)


def _tell_saved(run: Run, *, wait: bool = False) -> None:
    for saved in run.checkpoints.written(wait=wait):
        run.events.saved(run, saved)


def _stopped(run: Run, state: TrainState) -> RunError:
    reason = run.report.stop.reason or "another process of the run"
    return RunError(
        f"stopped by {reason} after step {state.step} of {run.cadence.steps}",
        hint="run the same command again to go on from here",
        where=f"step {state.step}",
        exit_code=ExitCode.STOPPED,
    )
