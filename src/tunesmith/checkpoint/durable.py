"""Files and folders that outlive a power cut: forced to the disk, then renamed into place."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
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
    """Replace ``path`` by ``text`` in one step: readers see the old file or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    force_to_disk(partial)
    partial.replace(path)
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
def replacing_folder(partial: Path, final: Path) -> Iterator[Path]:
    """Give an empty folder at ``partial``; afterwards it is on the disk under the name ``final``.

    When the body fails nothing of it is left. When the process dies, ``partial`` is left and is
    removed by the next attempt. A folder already at ``final`` is moved aside first, removed last.

    Raises:
        RunError: exit 3 when the disk fills up on the way.
    """
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with explaining_full_disk(final):
            yield partial
            force_tree_to_disk(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    superseded = final.with_name(f".{final.name}.superseded")
    shutil.rmtree(superseded, ignore_errors=True)
    if final.exists():
        final.replace(superseded)
    partial.replace(final)
    force_to_disk(final.parent)
    shutil.rmtree(superseded, ignore_errors=True)


@contextmanager
def explaining_full_disk(path: Path) -> Iterator[None]:
    """Turn "no space left on device" into a ``RunError`` with exit code 3 that names ``path``."""
    try:
        yield
    except Exception as error:
        if not _says_disk_full(error):
            raise
        free = shutil.disk_usage(path.parent).free
        raise RunError(
            f"the disk filled up while {path.name} was written; {free:,} bytes are free now",
            hint="free some space, lower save_total_limit, or point output_dir at a larger disk",
            where=str(path),
            exit_code=ExitCode.NO_ROOM,
        ) from error


def _says_disk_full(error: Exception) -> bool:
    """Whether the error is ENOSPC or EDQUOT; safetensors hands its I/O errors on as text only."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    text = str(error)
    return any(os.strerror(code) in text for code in (errno.ENOSPC, errno.EDQUOT))
