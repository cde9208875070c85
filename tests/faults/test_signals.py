"""SIGTERM in every part of a command: exit 75, and the same command ends as if nothing had been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import warm
from tests.faults.runs import assert_ends_as, config
from tests.smallrun import write_yaml
from tunesmith.checkpoint import layout

AT = """
import importlib, os, signal
module, _, name = {part!r}.partition(":")
owner = importlib.import_module(module)
*outer, last = name.split(".")
for one in outer:
    owner = getattr(owner, one)
real, calls = getattr(owner, last), [0]
def interrupted(*arguments, **more):
    calls[0] += 1
    if calls[0] == {call}:
        for number in {signals!r}:
            os.kill(os.getpid(), number)
    return real(*arguments, **more)
setattr(owner, last, interrupted)
"""

# What is going on -> (what is called then, which call of it, the checkpoint that is left).
# The preflight makes steps, too: of some things the first calls are its own.
PARTS = {
    "the data is prepared": ("tunesmith.launch.local:prepare", 1, None),
    "the model is loaded": ("tunesmith.runs.assemble:load_model", 1, None),
    "the run is checked": ("tunesmith.runs.train:preflight", 1, None),
    "a step begins": ("tunesmith.engine.loop:train_step", 5, 4),
    "a step ends": ("tunesmith.engine.loop:TrainState.advance", 5, 5),
    "the held-out data is looked at": ("tunesmith.engine.loop:evaluate", 1, 5),
    "a checkpoint is written": ("tunesmith.engine.loop:_save", 2, 6),
}
SUMMED = {"gradient_accumulation_steps": 3}
FAST = {"the model is loaded", "the held-out data is looked at"}


def cases():
    return [
        pytest.param(*what, marks=[] if name in FAST else pytest.mark.faults, id=name)
        for name, what in PARTS.items()
    ]


@pytest.fixture(scope="module")
def summed(ground, tmp_path_factory):
    """The output folder of an uninterrupted run of three micro-batches a step."""
    folder = tmp_path_factory.mktemp("summed")
    done = warm.run(folder, "train", write_yaml(folder, config(ground, "full", **SUMMED)))
    assert (done.code, done.err) == (0, "")
    return folder / "out"


@pytest.mark.parametrize(("part", "call", "left"), cases())
def test_sigterm_while(ground, summed, tmp_path, part, call, left):
    stop(ground, summed, tmp_path, (part, call, left), (signal.SIGTERM,))


@pytest.mark.faults
@pytest.mark.parametrize("signals", [(signal.SIGTERM,) * 3, (signal.SIGUSR1, signal.SIGTERM)])
@pytest.mark.parametrize("name", ["a step begins", "a checkpoint is written"])
def test_signals_that_come_twice(ground, summed, tmp_path, name, signals):
    stop(ground, summed, tmp_path, PARTS[name], signals)


def stop(ground, summed, tmp_path, what, signals):
    part, call, left = what
    path = write_yaml(tmp_path, config(ground, "full", **SUMMED))
    before = AT.format(part=part, call=call, signals=tuple(map(int, signals)))
    done = warm.run(tmp_path, "train", path, before=before)
    assert done.code == 75, done
    assert "Traceback" not in done.err
    newest = layout.survey(tmp_path / "out").newest
    assert (newest and layout.step_of(newest)) == left
    assert_ends_as(tmp_path, path, summed)


def test_who_asks_while_the_model_is_written_gets_it(ground, whole, tmp_path):
    """Where no checkpoint was asked for, the export is all that a run leaves."""
    path = write_yaml(tmp_path, config(ground, "lora"))
    before = AT.format(part="tunesmith.runs.train:finish", call=1, signals=(int(signal.SIGTERM),))
    done = warm.run(tmp_path, "train", path, before=before)
    assert done.code == 0
    assert_ends_as(tmp_path, path, whole("lora"))


@pytest.mark.faults
@pytest.mark.parametrize("tenths", [2, 5, 10, 20, 30])
def test_sigterm_while_everything_is_imported(ground, tmp_path, figure, tenths):
    """As a shell starts it. Until Python has come to our first line, a signal is the system's."""
    path = write_yaml(tmp_path, config(ground, "lora"))
    command = [Path(sys.executable).with_name("tunesmith"), "train", path]
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"TUNESMITH_CACHE": str(tmp_path / "cache")},
    )
    time.sleep(tenths / 10)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode in ({75, -signal.SIGTERM} if tenths < 4 else {75}), err
    assert "Traceback" not in err
    seconds = time.monotonic() - started - tenths / 10
    figure(f"SIGTERM {tenths / 10} s after the start: {process.returncode} after {seconds:.1f} s")
