"""``fit``: step, report, evaluate, save, stop."""

from __future__ import annotations

from tunesmith.checkpoint.state import TrainState
from tunesmith.engine.evaluate import evaluate
from tunesmith.engine.run import Run
from tunesmith.engine.step import train_step
from tunesmith.errors import ExitCode, RunError


def fit(run: Run, state: TrainState) -> TrainState:
    """The state after the last step. Where ``state.step`` is not 0 the run goes on from there.

    Raises:
        RunError: exit 4, a number is not finite; exit 75, a signal asked to stop (a checkpoint of
            the last finished step was written); exit 3 and 5 from saving.
    """
    run.events.run_started(run, state)
    if state.step == 0 and run.cadence.evaluate(state):
        _evaluate(run, state)
    run.report.restart_clock()
    for microbatches in run.stream.from_step(state.step):
        report = train_step(run, state, microbatches)
        state.advance(report)
        run.report.watch(state, report)
        run.stream.policy_updated(state.step, run.policy)
        run.events.step_finished(run, state, report)
        # Who is asked to stop has seconds left: the checkpoint comes first, nothing is evaluated.
        is_cut_short = report.stop_requested and state.step < run.cadence.steps
        if run.cadence.evaluate(state) and not is_cut_short:
            _evaluate(run, state)
        if run.cadence.save(state) or is_cut_short:
            _save(run, state)
        if run.cadence.stop(state, report):
            break
    run.report.settle(state)
    if state.step < run.cadence.steps:
        raise _stopped(run, state)
    run.events.run_finished(run, state)
    return state


def _evaluate(run: Run, state: TrainState) -> None:
    """Look at the held-out data, remember the best, tell everybody."""
    run.report.settle(state)
    result = evaluate(run)
    state.evaluated(result["eval_loss"])
    run.events.evaluated(run, state, result)
    run.report.restart_clock()


def _save(run: Run, state: TrainState) -> None:
    """Write a checkpoint and tell everybody."""
    run.report.settle(state)
    with run.served_weights():
        run.checkpoints.save(state)
    run.events.saved(run, state)
    run.report.restart_clock()


def _stopped(run: Run, state: TrainState) -> RunError:
    reason = run.report.stop.reason or "another process of the run"
    return RunError(
        f"stopped by {reason} after step {state.step} of {run.cadence.steps}",
        hint="run the same command again to go on from here",
        where=f"step {state.step}",
        exit_code=ExitCode.STOPPED,
    )
