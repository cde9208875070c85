"""What a command says in the terminal, from the plan to the last lines."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console as Screen

from tunesmith.checkpoint.finished import ADAPTER_CONFIG
from tunesmith.checkpoint.state import TrainState
from tunesmith.report.progress import Preparing, StepProgress, in_words
from tunesmith.report.watched import Watched

STAGES = {
    "load": "loading the model",
    "preflight": "checking the run on its own data",
    "train": "training",
    "export": "writing the model, and loading it again to compare",
}
"""What the names of a run's parts mean to people."""


class Choice(Protocol):
    """A derived value and the reason for it."""

    @property
    def value(self) -> Any:
        """What was chosen."""
        ...

    @property
    def reason(self) -> str:
        """Why."""
        ...

    @property
    def estimated(self) -> bool:
        """Whether it will change once the data is prepared."""
        ...


class Plan(Protocol):
    """What a plan must tell to be printed."""

    def chosen(self) -> Iterable[tuple[str, Choice]]:
        """(name, choice) in the order of printing."""
        ...


class Finding(Protocol):
    """One line of the preflight."""

    @property
    def name(self) -> str:
        """Which probe."""
        ...

    @property
    def seen(self) -> str:
        """What it saw."""
        ...

    @property
    def seconds(self) -> float:
        """How long it took."""
        ...

    @property
    def skipped(self) -> bool:
        """Whether it was left out."""
        ...


class Held:
    """A callback that keeps the first and the last evaluation, and where the run ended."""

    def __init__(self) -> None:
        self.before: tuple[int, float] | None = None
        self.after: tuple[int, float] | None = None
        self.state = TrainState()

    def evaluated(self, run: Watched, state: TrainState, result: Mapping[str, float]) -> None:
        """Keep it."""
        found = (state.step, result["eval_loss"])
        self.before = self.before or found
        self.after = found

    def run_finished(self, run: Watched, state: TrainState) -> None:
        """Keep the counts."""
        self.state = state

    def line(self) -> str | None:
        """The held-out loss before and after, as far as there is any."""
        if self.before is None or self.after is None:
            return None
        if self.before == self.after:
            return f"held-out loss  {self.after[1]:.4f} after step {self.after[0]}"
        start = "before" if self.before[0] == 0 else f"after step {self.before[0]}"
        return f"held-out loss  {self.before[1]:.4f} {start}, {self.after[1]:.4f} at the end"


class Console:
    """What ``runs`` hands its news to: each method is one of its callables.

    ``callbacks`` listen to the loop's events.
    """

    def __init__(self, screen: Screen | None = None) -> None:
        self._screen = screen if screen is not None else Screen()
        self._started = time.monotonic()
        self._held = Held()
        self.preparing = Preparing(self._screen)
        self.steps = StepProgress(self._screen)
        self.callbacks: tuple[object, ...] = (self.steps, self._held)

    def planned(self, plan: Plan, material: object = None) -> None:
        """Print the plan."""
        self.preparing.close()
        for line in plan_lines(plan):
            self.said(line)

    def stage(self, name: str) -> None:
        """Say which part of the run begins."""
        self.preparing.close()
        self.said(STAGES.get(name, name))

    def said(self, line: str) -> None:
        """Print a line for people."""
        self.steps.say(line)

    def probed(self, finding: Finding) -> None:
        """Print a probe's line."""
        self.said(finding_line(finding))

    def finished(self, output_dir: Path) -> None:
        """Print the last lines."""
        seconds = time.monotonic() - self._started
        for line in last_lines(output_dir, self._held, seconds):
            self.said(line)


def plan_lines(plan: Plan) -> list[str]:
    """A line for each derived value: its name, the value (``~`` when estimated), the reason."""
    rows = [
        (name.replace("_", " "), ("~" if choice.estimated else "") + _shown(choice.value), choice)
        for name, choice in plan.chosen()
    ]
    names = max((len(name) for name, _, _ in rows), default=0)
    values = max((len(value) for _, value, _ in rows), default=0)
    return [
        f"{name:<{names}}  {value:<{values}}  {choice.reason}".rstrip()
        for name, value, choice in rows
    ]


def finding_line(finding: Finding) -> str:
    """What a probe saw, in one line."""
    if finding.skipped:
        return f"  left out  {finding.name}: {finding.seen}"
    return f"  ok        {finding.name}: {finding.seen} ({finding.seconds:.1f} s)"


def last_lines(output_dir: Path, held: Held, seconds: float) -> list[str]:
    """Where the model is, how good it is, and what can be done with it."""
    lines = [f"done in {in_words(seconds)}"]
    if held.state.step:
        lines[0] += f": {held.state.step:,} steps, {held.state.tokens:,} tokens"
    loss = held.line()
    if loss is not None:
        lines.append(loss)
    is_adapter = (output_dir / ADAPTER_CONFIG).is_file()
    lines.append(f"the {'adapter' if is_adapter else 'model'} is in  {output_dir}")
    lines.append(f"talk to it      tunesmith chat {output_dir}")
    if is_adapter:
        lines.append(f"merge it        tunesmith merge {output_dir}")
    return lines


def _shown(value: Any) -> str:
    """A value as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
