"""Worker processes that render rows, so that a template can hang or explode in one of them alone.

A worker starts without torch, keeps limits on its memory and on the processor time of each row, and
answers with JSON and plain bytes: nothing that a template could have written is unpickled here.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import queue
import select
import signal
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
from typing import Any, Self

from tunesmith.data.records import RowError
from tunesmith.data.render import Renderer, RenderSettings, Row
from tunesmith.data.wire import (
    LENGTH,
    Outcome,
    pack_rows,
    pack_settings,
    to_json,
    unpack_outcomes,
    write_block,
)
from tunesmith.data.worker import FIX, NO_ROW, render_row
from tunesmith.errors import DataError, RunError

_MEBIBYTE = 1 << 20
_RETRIES = 2


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
        self._file.write(LENGTH.pack(NO_ROW))
        self._file.flush()
        self._progress = mmap.mmap(self._file.fileno(), LENGTH.size, access=mmap.ACCESS_READ)
        descriptor = self._file.fileno()
        code = f"from tunesmith.data.worker import serve; serve({descriptor})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[descriptor],
            env=_environment(),
        )
        asked = {
            "settings": pack_settings(settings),
            "cpu_seconds": limits.cpu_seconds,
            "memory_bytes": limits.memory_bytes,
        }
        self._send(to_json(asked))
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
        self._send(pack_rows(rows))
        return unpack_outcomes(*self._receive())

    def _send(self, block: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the death is told by what is received
            write_block(self._process.stdin, block)

    def _row(self) -> int:
        return int(LENGTH.unpack(self._progress[:])[0])

    def _receive(self) -> tuple[dict[str, Any], bytes]:
        return json.loads(self._block()), self._block()

    def _block(self) -> bytes:
        length = LENGTH.unpack(self._read_exactly(LENGTH.size))[0]
        return self._read_exactly(length)

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
                    outcomes[left[death.row]] = RowError("", f"rendering {death.reason}", FIX)
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
