"""`train` with a defect somewhere below: what it said, and whether it came to its first step."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import smallrun
from tunesmith.config import read
from tunesmith.errors import TunesmithError
from tunesmith.launch import local
from tunesmith.runs.watchers import Watchers

CHECK = "config check"
PREPARE = "prepare"
"""What refuses before there is a run to probe; a probe goes by its own name."""


@dataclass
class Told:
    """What was told before the first step, and the error that ended it there (None: it trained)."""

    error: TunesmithError | None = None
    lines: list[str] = field(default_factory=list)
    trained: bool = False

    @property
    def by(self) -> str:
        """Who refused."""
        if self.error is None:
            return "nobody"
        message = self.error.message
        if message.startswith("preflight "):
            return message.split(":")[0].removeprefix("preflight ")
        return CHECK if isinstance(self.error, read.ConfigError) else PREPARE

    @property
    def text(self) -> str:
        """Everything, in one piece: message, place, hint, lines."""
        error = self.error
        parts = [error.message, str(error.where), str(error.hint)] if error is not None else []
        parts += [f"{one.key}: {one.message}; {one.fix}" for one in getattr(error, "problems", ())]
        return "\n".join([*parts, *self.lines])


@dataclass
class Attempts:
    """Runs of one test, each in the same folder with one cache."""

    ground: Path
    folder: Path

    def train(self, rows: str = "chat_template", **changes: Any) -> Told:
        """What `train` told with these changes of the small run's keys."""
        told = Told()
        keys = smallrun.keys(self.ground / "base", self.ground / f"{rows}.jsonl", **changes)
        if "datasets" not in changes:
            path = str(self.ground / f"{rows}.jsonl")
            keys["datasets"] = [{"path": path, **smallrun.ROWS[rows][1]}]
        # Rows are rendered in this process, where the defect is.
        keys.pop("dataset_num_proc", None)
        with _listening(told.lines):
            try:
                local.start(read.load(keys).config, _watchers(told))
            except TunesmithError as error:
                told.error = error
        metrics = self.folder / str(keys["output_dir"]) / "metrics.jsonl"
        assert told.trained == metrics.exists()
        return told

    def refused(self, by: str, *words: str, **changes: Any) -> Told:
        """The same, which must have been refused by ``by`` in these words before step 1."""
        told = self.train(**changes)
        assert told.by == by, told.text
        assert not told.trained
        for word in words:
            assert word in told.text, told.text
        return told


def _watchers(told: Told) -> Watchers:
    def stage(name: str) -> None:
        told.trained |= name == "train"

    def planned(plan: Any, material: Any) -> None:
        told.lines.extend(f"{lint.source}: {lint.message}" for lint in material.lints)
        told.lines.extend(material.ledger.summary())

    def probed(finding: Any) -> None:
        told.lines.append(f"{finding.name}: {finding.seen}")

    return Watchers(stage=stage, planned=planned, probed=probed, said=told.lines.append)


class _listening(logging.Handler):
    """Collects what tunesmith logs before the first step."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines
        self._logger = logging.getLogger("tunesmith")

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())

    def __enter__(self) -> None:
        self._logger.addHandler(self)

    def __exit__(self, *caught: object) -> None:
        self._logger.removeHandler(self)


def wrap(patch: pytest.MonkeyPatch, owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Let ``around(real, *arguments)`` stand where ``owner.name`` stood."""
    real = getattr(owner, name)
    patch.setattr(owner, name, lambda *a, **k: around(real, *a, **k))
