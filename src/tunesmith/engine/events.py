"""The six events, who may listen to them, and in which order they are told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from tunesmith.checkpoint.state import TrainState
from tunesmith.engine.report import StepReport

RunT = TypeVar("RunT")
RunT_contra = TypeVar("RunT_contra", contravariant=True)

NAMES = (
    "run_started",
    "step_finished",
    "evaluated",
    "saved",
    "run_finished",
    "run_failed",
)


class Callback(Protocol[RunT_contra]):
    """The six methods that are called; a plain class with any of them is a callback.

    A callback listens. It may touch the model at a step boundary, never the loop's control flow.
    Reading a number of a report waits for the device: those who log often read the report of the
    step before.
    """

    def run_started(self, run: RunT_contra, state: TrainState) -> None:
        """Everything is assembled; ``state.step`` is above 0 when the run is resumed."""
        ...

    def step_finished(self, run: RunT_contra, state: TrainState, report: StepReport) -> None:
        """Weights were updated; ``state.step`` counts this step."""
        ...

    def evaluated(self, run: RunT_contra, state: TrainState, result: Mapping[str, float]) -> None:
        """The held-out data was looked at after ``state.step`` steps."""
        ...

    def saved(self, run: RunT_contra, state: TrainState) -> None:
        """A checkpoint of ``state.step`` is on the disk."""
        ...

    def run_finished(self, run: RunT_contra, state: TrainState) -> None:
        """The last step is done."""
        ...

    def run_failed(self, run: RunT_contra, state: TrainState, error: BaseException) -> None:
        """The run ended early, stopped by ``error``."""
        ...


class Events(Generic[RunT]):
    """Tells each event to every callback that has a method of its name, in the order given.

    Raises:
        TypeError: an object has none of the six methods, or one of them is not callable.
    """

    def __init__(self, callbacks: Iterable[object] = ()) -> None:
        self.callbacks = tuple(callbacks)
        for callback in self.callbacks:
            _require_a_method(callback)

    def run_started(self, run: RunT, state: TrainState) -> None:
        """Tell that the run starts."""
        self._tell("run_started", run, state)

    def step_finished(self, run: RunT, state: TrainState, report: StepReport) -> None:
        """Tell that a step is done."""
        self._tell("step_finished", run, state, report)

    def evaluated(self, run: RunT, state: TrainState, result: Mapping[str, float]) -> None:
        """Tell what the held-out data gave."""
        self._tell("evaluated", run, state, result)

    def saved(self, run: RunT, state: TrainState) -> None:
        """Tell that a checkpoint is on the disk."""
        self._tell("saved", run, state)

    def run_finished(self, run: RunT, state: TrainState) -> None:
        """Tell that the last step is done."""
        self._tell("run_finished", run, state)

    def run_failed(self, run: RunT, state: TrainState, error: BaseException) -> None:
        """Tell every callback that the run failed; none of them can hide ``error`` by failing."""
        for callback in self.callbacks:
            method = getattr(callback, "run_failed", None)
            if method is None:
                continue
            try:
                method(run, state, error)
            except Exception as second:
                error.add_note(f"{type(callback).__name__}.run_failed raised {second!r}")

    def _tell(self, name: str, *facts: Any) -> None:
        for callback in self.callbacks:
            method = getattr(callback, name, None)
            if method is not None:
                method(*facts)


def _require_a_method(callback: object) -> None:
    """Raise unless the object can hear something; a misspelt method would be silence."""
    methods = {name: getattr(callback, name) for name in NAMES if hasattr(callback, name)}
    kind = type(callback).__name__
    if not methods:
        raise TypeError(f"{kind} has none of the methods of a callback: {', '.join(NAMES)}")
    for name, method in methods.items():
        if not callable(method):
            raise TypeError(f"{kind}.{name} must be a method")
