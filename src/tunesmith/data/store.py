"""One builder for each key, and folders that are whole or absent."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunesmith.errors import DataError

LOCK, UNFINISHED = ".lock", ".unfinished"
"""Suffixes of what stands beside a folder: its lock, and what is being built."""


def build_once(
    folder: Path,
    is_whole: Callable[[Path], bool],
    build: Callable[[Path], None],
    waiting: Callable[[], None],
    *,
    resumes: bool = False,
) -> bool:
    """Make sure that ``folder`` is whole; says whether it was there already.

    One process builds, in a folder beside it that is renamed when every byte is on the disk; the
    others wait (``waiting`` is called once, when somebody else is at it). A build that died leaves
    nothing that is used. What it left is swept away, or handed to the next build if that
    ``resumes``; wrong data always leaves nothing.
    """
    if is_whole(folder):
        return True
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(folder.name + LOCK), waiting):
        if is_whole(folder):
            return True
        unfinished = folder.with_name(folder.name + UNFINISHED)
        for remains in (folder,) if resumes else (unfinished, folder):
            if remains.exists():
                shutil.rmtree(remains)
        unfinished.mkdir(exist_ok=resumes)
        try:
            build(unfinished)
            flush_to_disk(unfinished)
            unfinished.rename(folder)
        except (OSError, KeyboardInterrupt, SystemExit):
            if not resumes:
                shutil.rmtree(unfinished, ignore_errors=True)
            raise
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        _sync(folder.parent)
    return False


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock; the system gives it back when the process ends, however it ends."""
    with path.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def flush_to_disk(folder: Path) -> None:
    """Every byte in the folder, and every name, on the disk."""
    for path in sorted(folder.rglob("*")):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hash_json(value: Any) -> str:
    """SHA-256 of the value as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of the file's bytes.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}",
            hint="look at the file's permissions",
            where=str(path),
        ) from error
