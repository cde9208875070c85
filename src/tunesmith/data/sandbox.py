"""Worker processes that render rows, so that a template can hang or explode in one of them alone.

A worker starts without torch, keeps limits on its memory and on the processor time of each row, and
answers with JSON and plain bytes: nothing that a template could have written is unpickled here.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import pickle
import queue
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import IO, Any, Final, Self

import numpy as np

from tunesmith.data.records import Lint, RowError
from tunesmith.data.render import RenderedRow, Renderer, RenderSettings, Row
from tunesmith.data.samples import TokenSample
from tunesmith.errors import DataError, RunError

Outcome = RenderedRow | RowError
"""What became of a row: its samples, or why it cannot be used."""

_STARTING: Final = -1
_LENGTH = struct.Struct("<q")
_MEBIBYTE = 1 << 20
_RETRIES = 2


def render_row(renderer: Renderer, row: Row) -> Outcome:
    """The row's samples, or its error; running out of memory or stack is the row's error too."""
    source, record = row
    try:
        return renderer.render(record, source)
    except RowError as error:
        return error
    except MemoryError:
        return RowError("", "rendering ran out of the memory that a row may use", _FIX)
    except RecursionError:
        return RowError("", "rendering this row nests too deeply", _FIX)


_FIX = "look at the chat template, or at the size of this row"


# --- in the worker --------------------------------------------------------------------------------


def serve(progress_fd: int) -> None:
    """Answer batches from stdin on stdout until stdin ends: the whole life of a worker."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # a template that prints must not write into the answers
    progress = mmap.mmap(progress_fd, _LENGTH.size)
    settings, cpu_seconds, memory_bytes = pickle.loads(_read(requests))
    _limit_memory(memory_bytes)
    _begin_row(progress, _STARTING, cpu_seconds)
    try:
        renderer = Renderer(settings)
    except (DataError, MemoryError) as error:
        reason = getattr(error, "message", "the template needs too much memory to compile")
        _write(answers, json.dumps({"failed": reason, "hint": getattr(error, "hint", _FIX)}), b"")
        return
    _write(answers, json.dumps({"ready": True}), b"")
    while request := _read(requests):
        outcomes = []
        for number, row in enumerate(pickle.loads(request)):
            _begin_row(progress, number, cpu_seconds)
            outcomes.append(render_row(renderer, row))
        progress[:] = _LENGTH.pack(_STARTING)
        _write(answers, *_pack(outcomes))


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
    progress[:] = _LENGTH.pack(number)
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


# --- between the processes ------------------------------------------------------------------------


def _write(stream: IO[bytes], header: str, body: bytes) -> None:
    head = header.encode()
    stream.write(_LENGTH.pack(len(head)) + _LENGTH.pack(len(body)) + head + body)
    stream.flush()


def _read(stream: IO[bytes]) -> bytes:
    """One length-prefixed block; empty at the end of the stream."""
    length = stream.read(_LENGTH.size)
    return stream.read(_LENGTH.unpack(length)[0]) if len(length) == _LENGTH.size else b""


def _unpack(header: dict[str, Any], body: bytes) -> list[Outcome]:
    outcomes: list[Outcome] = []
    ids = np.frombuffer(body, dtype="<i4").astype(np.int32)
    position = 0
    for row in header["rows"]:
        if "error" in row:
            outcomes.append(RowError(*map(str, row["error"])))
            continue
        samples = []
        for length, runs, source in row["samples"]:
            piece = ids[position : position + length]
            position += length
            weighted = tuple((int(a), int(b), float(weight)) for a, b, weight in runs)
            samples.append(TokenSample(piece, weighted, str(source)))
        lints = tuple(Lint(*map(str, lint)) for lint in row["lints"])
        outcomes.append(RenderedRow(tuple(samples), lints))
    return outcomes


# --- in the parent --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limits:
    """What one row may take: seconds of processor time, seconds on the clock, bytes of memory."""

    cpu_seconds: int
    wall_seconds: float
    memory_bytes: int


class _WorkerDied(Exception):
    """The worker ended inside a row; ``row`` is its number in the batch."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row
        self.reason = reason


class _Worker:
    """One process and the pipes to it."""

    def __init__(self, settings: RenderSettings, limits: Limits) -> None:
        self._limits = limits
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        self._file.write(_LENGTH.pack(_STARTING))
        self._file.flush()
        self._progress = mmap.mmap(self._file.fileno(), _LENGTH.size, access=mmap.ACCESS_READ)
        descriptor = self._file.fileno()
        code = f"from tunesmith.data.sandbox import serve; serve({descriptor})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[descriptor],
            env=_environment(),
        )
        self._send(pickle.dumps((settings, limits.cpu_seconds, limits.memory_bytes)))
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        try:
            header, _ = self._receive()
        except _WorkerDied as death:
            self.close()
            raise DataError(
                f"the process that renders rows did not start: {death.reason}",
                hint="look at the chat template: it is compiled first",
                where="chat_template",
            ) from death
        if "failed" in header:
            self.close()
            raise DataError(header["failed"], hint=header["hint"], where="chat_template")

    def render(self, rows: Sequence[Row]) -> list[Outcome]:
        """What became of the rows; raises ``_WorkerDied`` where one of them ended the process."""
        self._send(pickle.dumps(list(rows)))
        return _unpack(*self._receive())

    def _send(self, block: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the death is told by what is received
            self._process.stdin.write(_LENGTH.pack(len(block)) + block)
            self._process.stdin.flush()

    def _row(self) -> int:
        return int(_LENGTH.unpack(self._progress[:])[0])

    def _receive(self) -> tuple[dict[str, Any], bytes]:
        sizes = self._read_exactly(2 * _LENGTH.size)
        head, body = (
            _LENGTH.unpack(sizes[: _LENGTH.size])[0],
            _LENGTH.unpack(sizes[_LENGTH.size :])[0],
        )
        return json.loads(self._read_exactly(head)), self._read_exactly(body)

    def _read_exactly(self, count: int) -> bytes:
        """So many bytes from the worker, which is ended if one row takes too long to answer."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        parts: list[bytes] = []
        while count > 0:
            row = self._row()
            ready, _, _ = select.select([descriptor], [], [], self._limits.wall_seconds)
            if not ready and row == self._row():
                self._process.kill()
                raise _WorkerDied(row, f"took more than {self._limits.wall_seconds:g} seconds")
            if not ready:
                continue
            part = os.read(descriptor, min(count, _MEBIBYTE))
            if not part:
                raise _WorkerDied(self._row(), self._death())
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _death(self) -> str:
        code = self._process.wait()
        if code == -signal.SIGXCPU:
            return f"took more than {self._limits.cpu_seconds} seconds of processor time"
        if code < 0:
            return f"ended its process by {signal.Signals(-code).name}"
        return f"ended its process with exit code {code}"

    def kill(self) -> None:
        """End the process; whoever waits for it is told by the end of its answers."""
        self._process.kill()

    def close(self) -> None:
        """End the process and free what belongs to it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._progress.close()
        self._file.close()


def _environment() -> dict[str, str]:
    """What a worker needs of the environment: where modules are, and one thread each."""
    kept = {
        key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL", "TMPDIR") if key in os.environ
    }
    return kept | {
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "TOKENIZERS_PARALLELISM": "false",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


class RenderPool:
    """Renders rows in several processes and hands them back in order.

    A row that takes more than ``cpu_seconds`` of processor time, ten times as much on the clock, or
    ``memory_bytes`` of memory, or that ends its process, becomes a ``RowError``; the others go on.
    With ``workers=0`` rows are rendered in this process, without limits. ``batch_rows`` rows travel
    together, and at most two batches a worker are on the way.
    """

    def __init__(
        self,
        settings: RenderSettings,
        workers: int,
        *,
        cpu_seconds: int = 5,
        memory_bytes: int = 1 << 30,
        batch_rows: int = 64,
    ) -> None:
        self._settings = settings
        self._workers = workers
        self._limits = Limits(cpu_seconds, 10.0 * cpu_seconds, memory_bytes)
        self._batch_rows = batch_rows
        self._threads = ThreadPoolExecutor(max(workers, 1), thread_name_prefix="render")
        self._idle: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        self._started: set[_Worker] = set()
        self._closed = threading.Event()
        for _ in range(workers):
            self._idle.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all workers; rows on the way are given up."""
        self._closed.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in list(self._started):
            worker.kill()
        self._threads.shutdown(wait=True)
        for worker in self._started:
            worker.close()
        self._started.clear()

    def render(self, rows: Iterable[Row]) -> Iterator[tuple[Row, Outcome]]:
        """Each row with what became of it, in the order of the rows."""
        if self._workers == 0:
            renderer = Renderer(self._settings)
            for row in rows:
                yield row, render_row(renderer, row)
            return
        waiting: deque[tuple[list[Row], Future[list[Outcome]]]] = deque()
        source = iter(rows)
        while batch := list(islice(source, self._batch_rows)):
            waiting.append((batch, self._threads.submit(self._render_batch, batch)))
            if len(waiting) >= 2 * self._workers:
                yield from self._finished(*waiting.popleft())
        while waiting:
            yield from self._finished(*waiting.popleft())

    def _finished(
        self, batch: Sequence[Row], future: Future[list[Outcome]]
    ) -> Iterator[tuple[Row, Outcome]]:
        yield from zip(batch, future.result(), strict=True)

    def _render_batch(self, batch: Sequence[Row]) -> list[Outcome]:
        """The outcomes of a batch: rows that end their worker are taken out and told."""
        outcomes: dict[int, Outcome] = {}
        retries = _RETRIES
        while left := [number for number in range(len(batch)) if number not in outcomes]:
            try:
                found = self._on_a_worker([batch[number] for number in left])
            except _WorkerDied as death:
                if 0 <= death.row < len(left):
                    outcomes[left[death.row]] = RowError("", f"rendering {death.reason}", _FIX)
                    continue
                retries -= 1
                if retries < 0 or self._closed.is_set():
                    raise RunError(
                        f"a process that renders rows ended outside of any row: {death.reason}",
                        hint="look at the memory that is free, and at `dataset_num_proc`",
                    ) from death
                continue
            outcomes |= dict(zip(left, found, strict=True))
        return [outcomes[number] for number in range(len(batch))]

    def _on_a_worker(self, rows: Sequence[Row]) -> list[Outcome]:
        """The outcomes by a worker that is idle or new; one that dies leaves its place."""
        worker = self._idle.get()
        try:
            if worker is None:
                worker = _Worker(self._settings, self._limits)
                self._started.add(worker)
            outcomes = worker.render(rows)
        except BaseException:
            if worker is not None:
                self._started.discard(worker)
                worker.close()
            self._idle.put(None)
            raise
        self._idle.put(worker)
        return outcomes
