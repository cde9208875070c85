"""The text of a config: of a file, a pipe or stdin, never more of it than a config may have."""

from __future__ import annotations

import os
import select
import stat
import sys

from tunesmith.config.tree import MAX_BYTES, decode
from tunesmith.errors import Problem

STDIN = "-"

# How long a pipe may say nothing. Who writes `<(jq ...)` waits for less.
SILENCE_S = 10.0


def text_of(name: str) -> str | Problem:
    """The text behind a name: a path, or ``-`` for stdin; or the problem with it.

    Addresses are refused. Of a file that is too large, or has no end, no more than ``MAX_BYTES``
    is read.
    """
    if "://" in name:
        message = "a config is not read from the network"
        return Problem("refused", message, "download it first", file=name)
    file = "stdin" if name == STDIN else name
    try:
        raw, size = _read_stdin() if name == STDIN else _read_file(name)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Problem("yaml", reason, "check the path", file=file)
    return decode(raw, file, size)


def _read_stdin() -> tuple[bytes, int | None]:
    return sys.stdin.buffer.read(MAX_BYTES + 1), None


def _read_file(name: str) -> tuple[bytes, int | None]:
    """The beginning of a file, and its size if that is known.

    A pipe is opened without waiting for its other end, so that one that nobody writes to is an
    error and not a program that stands still.
    """
    opened = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(opened)
        if stat.S_ISREG(found.st_mode):
            os.set_blocking(opened, True)
            with open(opened, "rb", closefd=False) as file:
                return file.read(MAX_BYTES + 1), found.st_size
        return _read_pipe(opened), None
    finally:
        os.close(opened)


def _read_pipe(opened: int) -> bytes:
    """What a pipe or device says until it ends.

    Raises:
        OSError: it is a folder, or nothing comes.
    """
    poll = select.poll()
    poll.register(opened, select.POLLIN)
    raw = b""
    while len(raw) <= MAX_BYTES:
        if not poll.poll(SILENCE_S * 1000):
            raise TimeoutError(0, f"nothing was written to this pipe for {SILENCE_S:g} seconds")
        piece = os.read(opened, MAX_BYTES + 1 - len(raw))
        if not piece:
            break
        raw += piece
    return raw
