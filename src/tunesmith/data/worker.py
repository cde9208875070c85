"""What runs inside a worker process: rows in, samples out, under limits.

A worker starts without torch, keeps limits on its memory and on the processor time of each row, and
answers with JSON and plain bytes: nothing that a template may have written is unpickled by others.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import pickle
import resource
import struct
import sys
from collections.abc import Sequence
from typing import IO, Any, Final

from tunesmith.data.records import RowError
from tunesmith.data.render import RenderedRow, Renderer, Row
from tunesmith.errors import DataError, ModelError

Outcome = RenderedRow | RowError
"""What became of a row: its samples, or why it cannot be used."""

NO_ROW: Final = -1
"""The number in the progress while no row is rendered."""

LENGTH: Final = struct.Struct("<q")
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
    """Answer batches from stdin on stdout until stdin ends: the whole life of a worker."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # a template that prints must not write into the answers
    progress = mmap.mmap(progress_fd, LENGTH.size)
    settings, cpu_seconds, memory_bytes = pickle.loads(_read(requests))
    _limit_memory(memory_bytes)
    _begin_row(progress, NO_ROW, cpu_seconds)
    try:
        renderer = Renderer(settings)
    except (DataError, ModelError, MemoryError) as error:
        reason = getattr(error, "message", "the template needs too much memory to compile")
        write_answer(
            answers, json.dumps({"failed": reason, "hint": getattr(error, "hint", FIX)}), b""
        )
        return
    write_answer(answers, json.dumps({"ready": True}), b"")
    while request := _read(requests):
        outcomes = []
        for number, row in enumerate(pickle.loads(request)):
            _begin_row(progress, number, cpu_seconds)
            outcomes.append(render_row(renderer, row))
        progress[:] = LENGTH.pack(NO_ROW)
        write_answer(answers, *_pack(outcomes))


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


def _pack(outcomes: Sequence[Outcome]) -> tuple[str, bytes]:
    """The outcomes as JSON, and the token ids of all samples as little-endian int32."""
    packed: list[dict[str, Any]] = []
    ids: list[bytes] = []
    for outcome in outcomes:
        if isinstance(outcome, RowError):
            packed.append({"error": [outcome.field, outcome.message, outcome.fix]})
            continue
        samples = [[len(sample), sample.runs, sample.source] for sample in outcome.samples]
        ids += [sample.input_ids.astype("<i4").tobytes() for sample in outcome.samples]
        lints = [[lint.code, lint.message, lint.source] for lint in outcome.lints]
        packed.append({"samples": samples, "lints": lints})
    return json.dumps({"rows": packed}), b"".join(ids)


def write_answer(stream: IO[bytes], header: str, body: bytes) -> None:
    """Send JSON and bytes, each with its length in front."""
    head = header.encode()
    stream.write(LENGTH.pack(len(head)) + LENGTH.pack(len(body)) + head + body)
    stream.flush()


def _read(stream: IO[bytes]) -> bytes:
    """One length-prefixed block; empty at the end of the stream."""
    length = stream.read(LENGTH.size)
    return stream.read(LENGTH.unpack(length)[0]) if len(length) == LENGTH.size else b""
