"""The runs of a sweep, one after another, each in a process and a folder of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any

from tunesmith.checkpoint.durable import write_text
from tunesmith.config.schema import RunConfig
from tunesmith.errors import ExitCode
from tunesmith.runs.folder import DONE
from tunesmith.runs.record import CONFIG, as_yaml
from tunesmith.tracking.build import METRICS_FILE

SUMMARY = "sweep.json"

Start = Callable[[Path], int]
"""Train the config file in a process of its own and return its exit code."""


class Status(StrEnum):
    """What became of a run of the sweep."""

    DONE = "done"
    SKIPPED = "finished before"
    FAILED = "failed"
    STOPPED = "stopped"
    WAITING = "not started"


@dataclass(frozen=True, slots=True)
class Member:
    """One run of a sweep: its name, the keys that make it differ, and its whole config."""

    name: str
    values: Mapping[str, Any]
    config: RunConfig

    @property
    def folder(self) -> Path:
        """Where it trains to."""
        return Path(self.config.checkpoint.output_dir)

    @property
    def is_finished(self) -> bool:
        """Whether its folder holds this very run, finished: the same config, and the model."""
        record = self.folder / CONFIG
        if not (self.folder / DONE).is_file() or not record.is_file():
            return False
        return record.read_text(encoding="utf-8") == as_yaml(self.config)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run of the sweep ended. Numbers are None where the run did not come to any.

    ``loss`` is the last step's, ``eval_loss`` the last evaluation's, ``tokens_per_second`` the mean
    over the steps.
    """

    name: str
    values: Mapping[str, Any]
    folder: str
    status: Status
    code: int = 0
    loss: float | None = None
    eval_loss: float | None = None
    tokens_per_second: float | None = None


def run_sweep(
    members: Sequence[Member],
    start: Start,
    *,
    fail_fast: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Outcome]:
    """The outcome of every member, in order; those that are finished already are not started.

    A run that fails does not keep the others from running, unless ``fail_fast``. One that was told
    to stop ends the sweep: the same command goes on with it. ``sweep.json`` beside the folders is
    written anew after each run.
    """
    outcomes = [_outcome(member, Status.WAITING) for member in members]
    for number, member in enumerate(members):
        if member.is_finished:
            outcomes[number] = _outcome(member, Status.SKIPPED)
            tell(f"{member.name}: finished before")
            continue
        tell(f"{member.name} ({number + 1} of {len(members)}): {in_words(member.values)}")
        code = start(_write_config(member))
        outcomes[number] = _outcome(member, _status_of(code), code)
        _write_summary(outcomes)
        if outcomes[number].status is Status.STOPPED or (fail_fast and code):
            break
    _write_summary(outcomes)
    return outcomes


def exit_code_of(outcomes: Sequence[Outcome]) -> int:
    """The code of the whole sweep: 0 if every run is finished, else the first that is not 0."""
    return next((outcome.code for outcome in outcomes if outcome.code), int(ExitCode.DONE))


def in_words(values: Mapping[str, Any]) -> str:
    """The keys of a run on one line."""
    return ", ".join(f"{key}={json.dumps(value)}" for key, value in values.items())


def start_process(path: Path, more: Sequence[str] = ()) -> int:
    """Run ``tunesmith train`` on a file in a process of its own; signals are passed on to it.

    A process that a signal ended has the code that shells give it (128 and the signal's number).
    """
    command = [sys.executable, "-c", "from tunesmith.cli.main import main; main()"]
    child = subprocess.Popen([*command, "train", str(path), *more])
    with _passing_signals_on(child):
        code = child.wait()
    return code if code >= 0 else 128 - code


@contextmanager
def _passing_signals_on(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Let the child decide about signals: the terminal's reach it anyway, others are sent on."""

    def handle(number: int, frame: FrameType | None) -> None:
        if number != signal.SIGINT:
            child.send_signal(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _status_of(code: int) -> Status:
    stopped = (ExitCode.STOPPED, 128 + signal.SIGINT, 128 + signal.SIGTERM)
    return Status.STOPPED if code in stopped else Status.FAILED if code else Status.DONE


def _write_config(member: Member) -> Path:
    """The whole config of the run, beside its folder: what the process is started with."""
    path = member.folder.parent / f"{member.name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, as_yaml(member.config))
    return path


def _outcome(member: Member, status: Status, code: int = 0) -> Outcome:
    path = member.folder / METRICS_FILE
    ran = status is not Status.WAITING and path.is_file()
    lines = [json.loads(line) for line in path.read_text().splitlines()] if ran else []
    steps = [line for line in lines if "loss" in line]
    evaluations = [line["eval_loss"] for line in lines if "eval_loss" in line]
    seconds = sum(line["seconds"] for line in steps)
    return Outcome(
        name=member.name,
        values=dict(member.values),
        folder=str(member.folder),
        status=status,
        code=code,
        loss=steps[-1]["loss"] if steps else None,
        eval_loss=evaluations[-1] if evaluations else None,
        tokens_per_second=sum(line["tokens"] for line in steps) / seconds if seconds else None,
    )


def _write_summary(outcomes: Sequence[Outcome]) -> None:
    for folder in {Path(outcome.folder).parent for outcome in outcomes}:
        inside = [asdict(one) for one in outcomes if Path(one.folder).parent == folder]
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / SUMMARY, json.dumps(inside, indent=2, ensure_ascii=False) + "\n")
