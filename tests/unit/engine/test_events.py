from __future__ import annotations

import pytest

from tunesmith.checkpoint.state import TrainState
from tunesmith.engine.events import NAMES, Events


class Listener:
    def __init__(self, name: str, heard: list[str]) -> None:
        self.name, self.heard = name, heard

    def saved(self, run, state):
        self.heard.append(f"{self.name} saved {run} {state.step}")


def test_every_event_reaches_its_method_in_the_order_given():
    heard: list[str] = []
    events = Events([Listener("first", heard), Listener("second", heard)])
    events.saved("run", TrainState(step=3))
    assert heard == ["first saved run 3", "second saved run 3"]


def test_all_six_are_told_and_missing_methods_are_fine():
    told: list[str] = []
    every = type("Every", (), {name: lambda self, *facts, n=name: told.append(n) for name in NAMES})
    events: Events[str] = Events([every(), Listener("some", [])])
    state = TrainState()
    events.run_started("run", state)
    events.step_finished("run", state, None)
    events.evaluated("run", state, {"eval_loss": 1.0})
    events.saved("run", state)
    events.run_finished("run", state)
    events.run_failed("run", state, ValueError())
    assert told == list(NAMES)


def test_a_misspelt_callback_is_refused():
    class Misspelt:
        def step_end(self, run, state, report): ...

    with pytest.raises(TypeError, match="Misspelt has none of the methods"):
        Events([Misspelt()])


def test_a_method_must_be_callable():
    class Odd:
        saved = 3

    with pytest.raises(TypeError, match=r"Odd\.saved must be a method"):
        Events([Odd()])


def test_an_error_in_a_callback_is_not_hidden():
    class Breaks:
        def saved(self, run, state):
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        Events([Breaks()]).saved("run", TrainState())


def test_a_callback_that_fails_in_run_failed_hides_nothing():
    heard: list[str] = []

    class Breaks:
        def run_failed(self, run, state, error):
            raise ValueError("second")

    class Hears:
        def run_failed(self, run, state, error):
            heard.append(str(error))

    error = RuntimeError("first")
    Events([Breaks(), Hears()]).run_failed("run", TrainState(), error)
    assert heard == ["first"]
    assert error.__notes__ == ["Breaks.run_failed raised ValueError('second')"]
