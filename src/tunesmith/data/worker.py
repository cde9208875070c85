"""What runs inside a worker process: rows in, samples out, under limits.

A worker starts without torch, keeps limits on its memory and on the processor time of each row, and
knows nothing of who asks but what it reads from its standard input.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import resource
import sys
from typing import IO, Final

from tunesmith.data.records import RowError
from tunesmith.data.render import Renderer, Row
from tunesmith.data.wire import (
    LENGTH,
    Outcome,
    pack_outcomes,
    read_block,
    to_json,
    unpack_rows,
    unpack_settings,
    write_block,
)
from tunesmith.errors import DataError, ModelError

NO_ROW: Final = -1
"""The number in the progress while no row is rendered."""

FIX: Final = "look at the chat template, or at the size of this row"


def render_row(renderer: Renderer, row: Row) -> Outcome:
    """The row's samples, or its error; running out of memory or stack is the row's error too."""
    source, record = row
    try:
        return renderer.render(record, source)
    except RowError as error:
        return error
    except MemoryError:
        return RowError("", "rendering ran out of the memory that a row may use", FIX)
    except RecursionError:
        return RowError("", "rendering this row nests too deeply", FIX)


def serve(progress_fd: int) -> None:
    """Answer batches from stdin on stdout until stdin ends: the whole life of a worker.

    A worker whose answers nobody reads any more ends without a word: who asked was killed, and is
    the one to be told of.
    """
    try:
        _serve(progress_fd)
    except BrokenPipeError:
        os._exit(1)  # an ordinary end would try to write the rest once more


def _serve(progress_fd: int) -> None:
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # a template that prints must not write into the answers
    progress = mmap.mmap(progress_fd, LENGTH.size)
    first = read_block(requests)
    if not first:
        return
    asked = json.loads(first)
    cpu_seconds = int(asked["cpu_seconds"])
    _limit_memory(int(asked["memory_bytes"]))
    _begin_row(progress, NO_ROW, cpu_seconds)
    try:
        renderer = Renderer(unpack_settings(asked["settings"]))
    except (DataError, ModelError, MemoryError) as error:
        reason = getattr(error, "message", "the template needs too much memory to compile")
        _answer(answers, to_json({"failed": reason, "hint": getattr(error, "hint", FIX)}), b"")
        return
    _answer(answers, to_json({"ready": True}), b"")
    while request := read_block(requests):
        outcomes = []
        for number, row in enumerate(unpack_rows(request)):
            _begin_row(progress, number, cpu_seconds)
            outcomes.append(render_row(renderer, row))
        progress[:] = LENGTH.pack(NO_ROW)
        _answer(answers, *pack_outcomes(outcomes))


def _answer(answers: IO[bytes], header: bytes, body: bytes) -> None:
    """Send what became of rows: JSON, and the bytes that belong to it."""
    write_block(answers, header)
    write_block(answers, body)


def _limit_memory(more_bytes: int) -> None:
    """Let the process grow by so many bytes from here; without effect where nothing limits it."""
    used = 0
    with contextlib.suppress(OSError), open("/proc/self/statm", encoding="ascii") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    if used:
        resource.setrlimit(resource.RLIMIT_AS, (used + more_bytes, resource.RLIM_INFINITY))


def _begin_row(progress: mmap.mmap, number: int, cpu_seconds: int) -> None:
    """Note which row is next, and let the kernel end the process if it takes too long.

    A handler cannot do it: signals wait until a long operation of the interpreter is over.
    """
    progress[:] = LENGTH.pack(number)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(usage.ru_utime + usage.ru_stime) + 1 + cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
