"""The guard of a run, and its memory: the incidents in ``ledger.json``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tunesmith.checkpoint.durable import write_text
from tunesmith.config.guard import GuardSection
from tunesmith.data.merge import LEDGER
from tunesmith.engine.guard import Guard, Spike

INCIDENTS = "incidents"


def build_guard(
    section: GuardSection,
    output_dir: Path,
    *,
    has_scale: bool,
    rows_of: Callable[[int], Iterable[str]],
) -> Guard:
    """What the section asks for; ``has_scale`` where a loss scale skips steps by itself."""
    threshold = section.loss_threshold
    return Guard(
        section.on_nonfinite,
        has_scale=has_scale,
        spike=None if threshold is None else Spike(threshold, section.loss_patience),
        incidents=LedgerIncidents(output_dir / LEDGER),
        rows_of=rows_of,
    )


class LedgerIncidents:
    """The incidents of the run whose ledger lies at ``path``, in the order in which they came."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, incident: dict[str, Any]) -> None:
        """Write one down, to stay on the disk."""
        ledger = _read(self._path)
        ledger.setdefault(INCIDENTS, []).append(incident)
        _write(self._path, ledger)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(_read(self._path).get(INCIDENTS, []))


def write_ledger(path: Path, accounts: Mapping[str, Any]) -> None:
    """Write the accounts of the data; the incidents of the run stay."""
    incidents = _read(path).get(INCIDENTS)
    _write(path, {**accounts, INCIDENTS: incidents} if incidents else accounts)


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return found


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
