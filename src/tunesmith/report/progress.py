"""How far it is: a bar on a terminal, plain lines elsewhere, with the same facts in both."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from rich.console import Console as Screen
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from tunesmith.checkpoint.state import TrainState
from tunesmith.report.watched import Step, Watched

SMOOTHING = 0.1
"""The weight of the newest step in the running mean of seconds a step."""

PLAIN_SECONDS = 5.0
"""Plain lines about preparation come no closer than this."""


def step_line(report: Step, steps: int, seconds_left: float | None) -> str:
    """The facts of a step in one line."""
    facts = [
        f"step {report.step}/{steps}",
        f"loss {report.loss:.4f}",
        f"lr {report.learning_rate:.2e}",
        f"norm {report.grad_norm:.3f}",
        f"{report.tokens_per_second:,.0f} tokens/s",
        f"epoch {report.epoch:.2f}",
    ]
    if seconds_left is not None:
        facts.append(f"left {in_words(seconds_left)}")
    return "  ".join(facts)


def evaluation_line(step: int, result: Mapping[str, float]) -> str:
    """The facts of an evaluation in one line."""
    line = f"held-out loss after step {step}: {result['eval_loss']:.4f}"
    if "perplexity" in result:
        line += f"  perplexity {result['perplexity']:.2f}"
    return line


def in_words(seconds: float) -> str:
    """A duration: ``42 s``, ``3 min 05 s``, ``2 h 07 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


class Pace:
    """A running mean of seconds a step, for the time that is left."""

    def __init__(self) -> None:
        self.seconds: float | None = None

    def add(self, report: Step) -> None:
        """Take a step into account; the first two warm caches up and count little."""
        if self.seconds is None or report.step <= 2:
            self.seconds = report.seconds
        else:
            self.seconds += SMOOTHING * (report.seconds - self.seconds)

    def left(self, report: Step, steps: int) -> float | None:
        """Seconds until the last step, evaluation and saving not counted; None without a step."""
        return None if self.seconds is None else self.seconds * (steps - report.step)


class StepProgress:
    """A callback that shows the steps.

    On a terminal the bar moves with each step; elsewhere each ``logging_steps``-th step is a line.
    Where the device runs ahead of the host, the numbers shown are those of the step before, so
    that showing them makes nobody wait.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._pace = Pace()
        self._previous: Step | None = None
        self._unshown: Step | None = None
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def run_started(self, run: Watched, state: TrainState) -> None:
        """Put the bar up, where there is a terminal."""
        self._take_down()
        if not self._screen.is_terminal:
            return
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            console=self._screen,
            transient=True,
        )
        self._task = self._bar.add_task("", total=run.cadence.steps, completed=state.step, facts="")
        self._bar.start()

    def step_finished(self, run: Watched, state: TrainState, report: Step) -> None:
        """Show this step, or the one before it."""
        self._pace.add(report)
        readable = report if run.device.type == "cpu" else self._previous
        self._previous = report
        if self._bar is not None:
            self._move_bar(run, state, readable)
        elif run.cadence.log(state):
            self._unshown = report
        if self._unshown is not None and (
            self._unshown is readable or state.step >= run.cadence.steps
        ):
            self._show_line(run)

    def evaluated(self, run: Watched, state: TrainState, result: Mapping[str, float]) -> None:
        """Say what the held-out data gave."""
        self._show_line(run)
        self.say(evaluation_line(state.step, result))

    def saved(self, run: Watched, state: TrainState) -> None:
        """Say where the checkpoint is."""
        self._show_line(run)
        self.say(f"saved checkpoint-{state.step}")

    def run_finished(self, run: Watched, state: TrainState) -> None:
        """Take the bar down."""
        self._show_line(run)
        self._take_down()

    def run_failed(self, run: Watched, state: TrainState, error: BaseException) -> None:
        """Take the bar down, so that the error stands alone."""
        self._take_down()

    def say(self, line: str) -> None:
        """A line that stays, above the bar."""
        self._screen.print(line, markup=False, highlight=False, soft_wrap=True)

    def _move_bar(self, run: Watched, state: TrainState, readable: Step | None) -> None:
        assert self._bar is not None
        facts = ""
        if readable is not None:
            steps = run.cadence.steps
            line = step_line(readable, steps, self._pace.left(readable, steps))
            facts = line.partition("  ")[2]  # the step's number stands beside the bar
        self._bar.update(self._task, completed=state.step, facts=facts)

    def _show_line(self, run: Watched) -> None:
        report, self._unshown = self._unshown, None
        if report is not None:
            steps = run.cadence.steps
            self.say(step_line(report, steps, self._pace.left(report, steps)))

    def _take_down(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class Preparing:
    """A callable that shows how far the preparation of data is: (what, done, of how many)."""

    def __init__(self, screen: Screen, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._screen = screen
        self._clock = clock
        self._what = ""
        self._last = 0.0
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Show it: in the bar, or as a line when it is another thing or some seconds went by."""
        is_new = what != self._what
        self._what = what
        if self._screen.is_terminal:
            self._move_bar(what, done, total)
            return
        now = self._clock()
        if is_new or now - self._last >= PLAIN_SECONDS:
            self._last = now
            amount = f"{done:,}" if total is None else f"{done:,} of {total:,}"
            text = what if is_new and done == 0 else f"{what}: {amount}"
            self._screen.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar down."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        self._what = ""

    def _move_bar(self, what: str, done: int, total: int | None) -> None:
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                console=self._screen,
                transient=True,
            )
            self._task = self._bar.add_task(what, total=total)
            self._bar.start()
        self._bar.update(self._task, description=what, completed=done, total=total)
