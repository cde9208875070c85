"""One builder for each key, and folders that are whole or absent."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def build_once(
    folder: Path,
    is_whole: Callable[[Path], bool],
    build: Callable[[Path], None],
    waiting: Callable[[], None],
) -> bool:
    """Make sure that ``folder`` is whole; says whether it was there already.

    One process builds, in a folder beside it that is renamed when every byte is on the disk; the
    others wait (``waiting`` is called once, when somebody else is at it). A build that died leaves
    nothing that is used, and the next one sweeps it away.
    """
    if is_whole(folder):
        return True
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock"), waiting):
        if is_whole(folder):
            return True
        unfinished = folder.with_suffix(".unfinished")
        for remains in (unfinished, folder):
            if remains.exists():
                shutil.rmtree(remains)
        unfinished.mkdir()
        try:
            build(unfinished)
            _flush_to_disk(unfinished)
            unfinished.rename(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        _sync(folder.parent)
    return False


@contextmanager
def _locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock; the system gives it back when the process ends, however it ends."""
    with path.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _flush_to_disk(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
