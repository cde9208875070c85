"""One writer for each output directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith.checkpoint.durable import explaining_disk
from tunesmith.errors import ExitCode, RunError

LOCK = ".tunesmith.lock"


@contextmanager
def owning(output_dir: Path) -> Iterator[None]:
    """Hold ``output_dir`` (made if missing) against every other process, until the body ends.

    The kernel gives the lock back when the process dies, however it dies: the file that stays
    behind means nothing by itself.

    Raises:
        RunError: exit 6, naming the process that holds it; exit 2, there can be no such folder;
            exit 3, the disk is full.
    """
    path = output_dir / LOCK
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunError(
            f"{output_dir} cannot be written to: {error.strerror or error}",
            hint="name a folder of yours in output_dir",
            where="output_dir",
            exit_code=ExitCode.WRONG_INPUT,
        ) from error
    try:
        _take(descriptor, path)
        with explaining_disk(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} on {os.uname().nodename}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    """Lock the open file at once or raise."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(descriptor, 300, 0).decode(errors="replace").strip() or "unknown"
        raise RunError(
            f"{path.parent} is in use by process {owner}",
            hint="wait for that run, stop it, or choose another output_dir",
            where=str(path.parent),
            exit_code=ExitCode.IN_USE,
        ) from error
