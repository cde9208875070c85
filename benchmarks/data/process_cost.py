"""What a command costs: processor time and peak memory of its whole tree of processes (Linux)."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

PR_SET_CHILD_SUBREAPER = 36
INTERVAL = 0.2


@dataclass(frozen=True, slots=True)
class Cost:
    """One run. ``peak_mib`` sums the tree's proportional set sizes (a shared page counts once)."""

    cpu_seconds: float
    wall_seconds: float
    peak_mib: float


def measure(
    command: Sequence[str], environment: Mapping[str, str], log: Path, seconds: float
) -> Cost:
    """Run the command to its end; its output goes to ``log``.

    Orphans are adopted, so that the time of a worker whose parent left first counts too.

    Raises:
        RuntimeError: the command failed or took longer than ``seconds``; says where its log is.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before, start = _children_seconds(), time.monotonic()
    peak = 0.0
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            list(command), env=dict(environment), stdout=file, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            peak = max(peak, _tree_mib(process.pid))
            if time.monotonic() - start > seconds:
                process.kill()
            time.sleep(INTERVAL)
    _reap_orphans()
    if process.returncode != 0:
        msg = f"{' '.join(command)} ended with {process.returncode}; see {log}"
        raise RuntimeError(msg)
    return Cost(
        cpu_seconds=round(_children_seconds() - before, 2),
        wall_seconds=round(time.monotonic() - start, 2),
        peak_mib=round(peak, 1),
    )


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _reap_orphans() -> None:
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _tree_mib(pid: int) -> float:
    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    return sum(_proportional_mib(process.pid) for process in tree)


def _proportional_mib(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:  # it ended in between
        return 0.0
    line = next((line for line in text.splitlines() if line.startswith("Pss:")), "Pss: 0 kB")
    return int(line.split()[1]) / 1024
