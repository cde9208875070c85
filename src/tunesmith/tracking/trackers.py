"""Where numbers go: the ``Tracker`` protocol, ``metrics.jsonl``, and a list for tests."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from tunesmith.errors import ExitCode, RunError

Metrics = Mapping[str, Any]


class Tracker(Protocol):
    """Takes named numbers by step."""

    def log(self, step: int, metrics: Metrics) -> None:
        """Keep what ``step`` finished steps have given."""
        ...

    def close(self) -> None:
        """Give back what it holds; afterwards nothing can be logged."""
        ...


class ListTracker:
    """Keeps everything in ``records``; for tests and notebooks."""

    def __init__(self) -> None:
        self.records: list[tuple[int, dict[str, Any]]] = []
        self.is_closed = False

    def log(self, step: int, metrics: Metrics) -> None:
        """Append ``(step, metrics)``."""
        if self.is_closed:
            raise ValueError("the tracker is closed")
        self.records.append((step, dict(metrics)))

    def close(self) -> None:
        """Refuse what comes after."""
        self.is_closed = True


class JsonLines:
    """Appends one JSON object a line, and flushes it, so that a killed run keeps its lines.

    ``resumed_step`` is the step of the checkpoint that the run goes on from: lines of later steps
    belong to work that is done again, and are dropped, as is a last line that was cut off.
    Numbers that are not finite are written as the strings "nan", "inf" and "-inf": JSON has none.
    """

    def __init__(self, path: Path, *, resumed_step: int = 0) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            keep_lines(path, resumed_step)
        self._file = path.open("a", encoding="utf-8")

    def log(self, step: int, metrics: Metrics) -> None:
        """Write ``{"step": step, ...}``."""
        record = {"step": step} | {name: _plain(value) for name, value in metrics.items()}
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file, its content on the disk."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()


def keep_lines(path: Path, last_step: int) -> None:
    """Drop the lines of steps beyond ``last_step``; the file is replaced as a whole or not at all.

    Raises ``RunError`` where a line in the middle is no JSON object with a step.
    """
    lines = path.read_bytes().splitlines(keepends=True)
    kept = []
    for number, line in enumerate(lines, start=1):
        is_cut_off = number == len(lines) and not line.endswith(b"\n")
        if not is_cut_off and _step_of(line, f"{path}:{number}") <= last_step:
            kept.append(line)
    if len(kept) == len(lines):
        return
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.writelines(kept)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _step_of(line: bytes, where: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            "a line of the metrics cannot be read",
            hint="move the file away; the run writes a new one",
            where=where,
            exit_code=ExitCode.DAMAGED,
        ) from error


def _plain(value: Any) -> Any:
    """The value as JSON can hold it; a scalar tensor or array becomes its number."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
