"""Preparing is killed at any event of the file system; the next one ends with the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.unit.data.toys import alpaca_rows, request, weigh, write_jsonl
from tunesmith.config.data import DatasetEntry
from tunesmith.data import cache, fingerprint, shards
from tunesmith.data.prepare import find, prepare
from tunesmith.data.windows import StreamRequest, Windows

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.faults.test_kills_prepare"])

_CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.utime")
CODE = "one version"

_PARTS = 10
"""Kills of `make test`, spread over all events."""


class Killer:
    """Counts what changes the file system inside ``home``, and dies before event ``number``."""

    def __init__(self, home: Path, number: int | None) -> None:
        self.home, self.number, self.count = str(home), number, 0
        sync, flush = os.fsync, cache.SampleWriter._flush
        os.fsync = lambda descriptor: (self.event(), sync(descriptor))[1]
        cache.SampleWriter._flush = lambda writer: (self.event(), flush(writer))[1]
        sys.addaudithook(self.hear)
        fingerprint.code_digest = lambda: CODE

    def hear(self, name: str, arguments: tuple) -> None:
        opens = name == "open" and isinstance(arguments[1], str) and arguments[1][0] in "wax"
        if (opens or name in _CHANGES) and str(arguments[0]).startswith(self.home):
            self.event()

    def event(self) -> None:
        if self.count == self.number:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1


def asked(home):
    """Two data sets of three and two shards, with held-out rows and copies."""
    entries = [
        DatasetEntry(path=str(home.parent / f"{name}.jsonl"), type="alpaca") for name in "ab"
    ]
    data = {"val_set_size": 0.1, "exact_deduplication": True}
    return request(entries, home, data=data, weigh=weigh)


def build(home, number, answers):
    """Prepare in a process of its own, which may die at an event."""
    shards.SHARD_ROWS = 10
    killer = Killer(home / "cache", number)
    prepared = prepare(asked(home))
    answers.put((killer.count, prepared.from_cache, prepared.train.fingerprint))


def build_windows(home, number, answers):
    killer = Killer(home / "cache", number)
    found = Windows(StreamRequest(asked(home), 16))
    fingerprints = [found.open(window)[0].fingerprint for window in range(4)]
    answers.put((killer.count, False, tuple(fingerprints)))


def run(home, number, what=build):
    """What a process answers, or None where it was killed."""
    answers = _PROCESSES.SimpleQueue()
    process = _PROCESSES.Process(target=what, args=(home, number, answers))
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return answers.get() if process.exitcode == 0 else None


def tree(home):
    """Every file of the cache with its bytes; the locks are empty."""
    files = [path for path in (home / "cache").rglob("*") if path.is_file()]
    return {str(path.relative_to(home)): path.read_bytes() for path in files}


@pytest.fixture(autouse=True)
def _the_code_stays(monkeypatch):
    """Keys hold the hash of the package's files, which somebody may edit while this runs."""
    monkeypatch.setattr(fingerprint, "code_digest", lambda: CODE)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A folder with the rows; every home is beside them, so that their names are the same."""
    folder = tmp_path_factory.mktemp("kills")
    write_jsonl(folder / "a.jsonl", [*alpaca_rows(25), *alpaca_rows(3)])
    write_jsonl(folder / "b.jsonl", alpaca_rows(15, start=20))
    return folder


def new_home(rows, name):
    home = rows / name
    home.mkdir()
    asked(home)  # makes the tokenizer
    return home


@pytest.fixture(scope="module")
def whole(rows):
    """The answer and the files of a preparation that nobody kills."""
    home = new_home(rows, "whole")
    answer = run(home, None)
    assert answer is not None
    found = tree(home)
    assert sum(name.endswith("shard.json") for name in found) == 5
    return answer, found


def assert_survives(rows, whole, number):
    (n_events, _, fingerprint), expected = whole
    home = new_home(rows, f"killed-{number}")
    assert run(home, number) is None, f"event {number} of {n_events} never came"
    found = find(asked(home))
    assert found is None or found.train.fingerprint == fingerprint
    answer = run(home, None)
    assert answer is not None
    assert answer[2] == fingerprint
    assert tree(home) == expected


@pytest.mark.parametrize("part", range(_PARTS))
def test_a_kill_at_some_events(rows, whole, part):
    assert_survives(rows, whole, part * (whole[0][0] - 1) // (_PARTS - 1))


@pytest.mark.faults
@pytest.mark.slow
def test_a_kill_at_every_event(rows, whole):
    for number in range(whole[0][0]):
        if not (rows / f"killed-{number}").exists():
            assert_survives(rows, whole, number)


def test_a_build_that_was_killed_goes_on_where_it_was(rows, whole):
    (n_events, _, _), _ = whole
    home = new_home(rows, "goes-on")
    assert run(home, n_events // 2) is None
    kept = [path for path in (home / "cache").rglob("shard.json") if path.parent.suffix != ".part"]
    assert kept
    stamps = {path.stat().st_mtime_ns for path in kept}
    assert run(home, None) is not None
    assert stamps <= {path.stat().st_mtime_ns for path in (home / "cache").rglob("shard.json")}


def test_eight_processes_at_once_build_once(rows, whole):
    home = new_home(rows, "eight")
    answers = _PROCESSES.SimpleQueue()
    processes = [_PROCESSES.Process(target=build, args=(home, None, answers)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    found = [answers.get() for _ in processes]
    assert sorted(from_cache for _, from_cache, _ in found) == [False] + [True] * 7
    assert {fingerprint for *_, fingerprint in found} == {whole[0][2]}
    assert tree(home) == whole[1]


def test_windows_of_a_stream_are_whole_or_absent(rows):
    expected = run(new_home(rows, "stream"), None, build_windows)
    assert expected is not None
    for number in range(5, expected[0], expected[0] // 4):
        home = new_home(rows, f"stream-{number}")
        assert run(home, number, build_windows) is None
        again = run(home, None, build_windows)
        assert again is not None
        assert again[2] == expected[2]
        assert not list((home / "cache").rglob("*.unfinished"))
