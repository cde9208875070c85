"""A run is killed at any moment of its life; the same command ends it as if nothing had been."""

from __future__ import annotations

import random
import shutil
import signal
import time

import pytest

from tests import warm
from tests.faults.events import EXPORT, SAVE, dying
from tests.faults.runs import METHODS, assert_ends_as, config
from tests.smallrun import write_yaml
from tunesmith.checkpoint import layout

PARTS = {"a save that rotates": (SAVE, 4), "the export": (EXPORT, 1)}
"""What is killed -> where it is, and which call of it.

The first save is the preflight's rehearsal; the fourth, of step 9, removes that of step 3.
"""


def count_events(ground, folder, name, part, call, **more):
    """How many file-system events the part has."""
    path, log = write_yaml(folder, config(ground, name, **more)), folder / "events"
    before = dying(part, str(folder / "out"), str(log), at=0, call=call)
    assert warm.run(folder, "train", path, before=before).code == 0
    return int(log.read_text())


def kill_at(ground, folder, name, part, call, at, **more):
    path = write_yaml(folder, config(ground, name, **more))
    before = dying(part, str(folder / "out"), str(folder / "events"), at=at, call=call)
    assert warm.run(folder, "train", path, before=before).code == -signal.SIGKILL
    return path


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("what", PARTS)
def test_a_kill_inside(ground, whole, tmp_path, what, share):
    """Two events of the many; all of them in ``make faults``."""
    part, call = PARTS[what]
    number = {"a save that rotates": 38, "the export": 31}[what]
    path = kill_at(ground, tmp_path, "lora", part, call, round(share * number))
    assert not (tmp_path / "out/tunesmith.json").exists()
    assert_ends_as(tmp_path, path, whole("lora"))


def test_a_kill_while_a_save_is_written_in_the_background(ground, whole, tmp_path):
    path = kill_at(ground, tmp_path, "full", SAVE, 3, 12, save_async=True)
    assert layout.survey(tmp_path / "out").newest.name == "checkpoint-3"
    assert_ends_as(tmp_path, path, whole("full"))


def test_a_killed_run_on_a_quantised_base_ends_with_the_same_bytes(ground, whole, tmp_path):
    path = write_yaml(tmp_path, config(ground, "qlora"))
    process = warm.start(tmp_path, "train", path)
    wait_for(process, tmp_path / "out/checkpoint-6")
    process.send(signal.SIGKILL)
    assert process.wait().code == -signal.SIGKILL
    assert_ends_as(tmp_path, path, whole("qlora"))


@pytest.mark.faults
@pytest.mark.parametrize("what", PARTS)
@pytest.mark.parametrize("name", ["lora", "full"])
def test_a_kill_at_every_event_of(ground, whole, tmp_path, figure, name, what):
    part, call = PARTS[what]
    count = tmp_path / "count"
    count.mkdir()
    n_events = count_events(ground, count, name, part, call)
    assert n_events > 25
    for at in range(1, n_events + 1):
        folder = tmp_path / str(at)
        folder.mkdir()
        path = kill_at(ground, folder, name, part, call, at)
        assert layout.survey(folder / "out").newest is not None
        assert_ends_as(folder, path, whole(name))
        shutil.rmtree(folder)
    figure(f"SIGKILL at every event of {what}, {name}: {n_events} of {n_events} end bit-identical")


@pytest.mark.faults
@pytest.mark.parametrize("name", METHODS)
def test_twenty_kills_at_random_moments(ground, whole, tmp_path, figure, name):
    """Each kills the command anywhere between its start and its end; then it is given again."""
    expected, draw, n_alive = whole(name), random.Random(name), 0
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = write_yaml(folder, config(ground, name))
        process = warm.start(folder, "train", path)
        time.sleep(draw.uniform(0.05, 2.5))
        if not process.has_ended():
            n_alive += 1
            process.send(signal.SIGKILL)
        assert process.wait().code in (0, -signal.SIGKILL)
        assert not layout.survey(folder / "out").damaged
        assert_ends_as(folder, path, expected)
        shutil.rmtree(folder)
    figure(f"random SIGKILLs, {name}: 20 of 20 end bit-identical ({n_alive} hit a living process)")


@pytest.mark.faults
@pytest.mark.parametrize("name", METHODS)
def test_three_kills_in_a_row(ground, whole, tmp_path, name):
    draw, path = random.Random(name), write_yaml(tmp_path, config(ground, name))
    for _ in range(3):
        process = warm.start(tmp_path, "train", path)
        time.sleep(draw.uniform(0.5, 2.0))
        if not process.has_ended():
            process.send(signal.SIGKILL)
        assert process.wait().code in (0, -signal.SIGKILL)
    assert_ends_as(tmp_path, path, whole(name))


@pytest.mark.faults
@pytest.mark.parametrize("at", range(1, 40, 6))
def test_a_kill_at_an_event_of_a_background_save(ground, whole, tmp_path, at):
    path = kill_at(ground, tmp_path, "lora", SAVE, 4, at, save_async=True)
    assert_ends_as(tmp_path, path, whole("lora"))


def wait_for(process, path):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        assert not process.has_ended(), process.wait()
        time.sleep(0.001)
