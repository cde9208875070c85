"""Files and folders that outlive a power cut: forced to the disk, then renamed into place."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith.errors import ExitCode, RunError

SPARE_BYTES = 16 * 2**20
"""Room for the small files of a folder: configuration, tokenizer, manifest."""


def force_to_disk(path: Path) -> None:
    """Return once ``path``, a file or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def force_tree_to_disk(folder: Path) -> None:
    """Return once every file and folder below ``folder``, and it itself, is on the disk."""
    for root, _, files in os.walk(folder, topdown=False):
        for name in files:
            force_to_disk(Path(root, name))
        force_to_disk(Path(root))


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` in one step: readers see the old file or the new one.

    Raises:
        RunError: exit 3, the disk is full or fails; the old file is as it was.
    """
    partial = path.with_name(f".{path.name}.partial")
    with explaining_disk(path):
        try:
            partial.write_text(text, encoding="utf-8")
            force_to_disk(partial)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        force_to_disk(path.parent)


def require_room(folder: Path, needed: int) -> None:
    """Raise unless the disk under ``folder`` has ``needed`` bytes (and some spare) free.

    Raises:
        RunError: exit 3, naming the bytes needed and the bytes free.
    """
    needed += SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunError(
            f"no room left: {needed:,} bytes are needed and {free:,} are free",
            hint="free some space, lower save_total_limit, or point output_dir at a larger disk",
            where=str(folder),
            exit_code=ExitCode.NO_ROOM,
        )


@contextmanager
def replacing_folder(partial: Path, final: Path, *, needed: int = 0) -> Iterator[Path]:
    """Give an empty folder at ``partial``; afterwards it is on the disk under the name ``final``.

    When anything fails nothing of it is left, and what was at ``final`` is there again. When the
    process dies, ``partial`` is left and is removed by the next attempt. A folder already at
    ``final`` is moved aside first, removed last. ``needed`` bytes are told where they do not fit.

    Raises:
        RunError: exit 3, the disk fills up or fails on the way.
    """
    superseded = final.with_name(f".{final.name}.superseded")
    with explaining_disk(final, needed):
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            yield partial
            force_tree_to_disk(partial)
            _swap(partial, final, superseded)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        force_to_disk(final.parent)
        shutil.rmtree(superseded, ignore_errors=True)


def _swap(partial: Path, final: Path, superseded: Path) -> None:
    """Rename ``partial`` to ``final``; what was there is ``superseded``, or back if that fails."""
    shutil.rmtree(superseded, ignore_errors=True)
    if final.exists():
        final.replace(superseded)
    try:
        partial.replace(final)
    except BaseException:
        if superseded.exists():
            superseded.replace(final)
        raise


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FAILING = (errno.EIO, errno.EROFS)


@contextmanager
def explaining_disk(path: Path, needed: int = 0) -> Iterator[None]:
    """Turn an error of a full or failing disk into a ``RunError`` that names ``path``.

    Raises:
        RunError: exit 3, with the bytes ``needed`` (where that is known) and those that are free.
    """
    try:
        yield
    except Exception as error:
        if _says(error, FULL):
            what = f"the disk filled up while {path.name} was written"
            hint = "free some space, lower save_total_limit, or point output_dir at a larger disk"
        elif _says(error, FAILING):
            what = f"the disk failed while {path.name} was written ({_reason(error)})"
            hint = "look at the disk and the system's log, or point output_dir at another one"
        else:
            raise
        free = shutil.disk_usage(path.parent).free
        sizes = f"{needed:,} bytes are needed and {free:,}" if needed else f"{free:,} bytes"
        raise RunError(
            f"{what}: {sizes} are free now",
            hint=f"{hint}; then give the same command again",
            where=str(path),
            exit_code=ExitCode.NO_ROOM,
        ) from error


def _says(error: Exception, codes: Collection[int]) -> bool:
    """Whether the error is of this kind; safetensors hands its I/O errors on as text only."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in codes
    return any(os.strerror(code) in str(error) for code in codes)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
