"""Threads that make a stream's batches before they are asked for, in order, and may hang."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Generic, TypeVar

from tunesmith.errors import DataError, ExitCode

STALLED_SECONDS = 300.0
"""Longer than any disk takes for a row: whatever reads it will not come back."""

LAST_SECONDS = 5.0
"""What threads get to finish what they are at, once nobody wants it any more."""

Made = TypeVar("Made")


class Ahead(Generic[Made]):
    """``make(step)`` for one step after the other, ``workers`` of them ahead of the consumer.

    The threads are daemons: one that hangs in a read does not keep the process from ending.
    ``doing`` says what the threads are at, for the error about one that hangs.
    """

    def __init__(self, make: Callable[[int], Made], workers: int, doing: Callable[[], str]) -> None:
        self._make, self._workers, self._doing = make, workers, doing
        self._queue: SimpleQueue[tuple[int, Future[Made]] | None] = SimpleQueue()

    def run(self, first: int, stop: int) -> Iterator[Made]:
        """What ``make`` gives for each step of ``range(first, stop)``.

        Raises:
            DataError: exit 7, a thread has hung for ``STALLED_SECONDS``. What ``make`` raises is
                raised when its step comes.
        """
        threads = [
            threading.Thread(target=self._work, name=f"collate_{number}", daemon=True)
            for number in range(self._workers)
        ]
        for thread in threads:
            thread.start()
        pending: deque[tuple[int, Future[Made]]] = deque()
        try:
            for step in range(first, stop):
                pending.append((step, Future()))
                self._queue.put(pending[-1])
                if len(pending) > self._workers:
                    yield self._wait(*pending.popleft())
            while pending:
                yield self._wait(*pending.popleft())
        finally:
            for _, future in pending:
                future.cancel()
            for _ in threads:
                self._queue.put(None)
            end = time.monotonic() + LAST_SECONDS
            for thread in threads:
                thread.join(max(0.0, end - time.monotonic()))

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            step, future = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._make(step))
            except BaseException as error:
                future.set_exception(error)

    def _wait(self, step: int, future: Future[Made]) -> Made:
        try:
            return future.result(timeout=STALLED_SECONDS)
        except TimeoutError:
            if future.done():
                raise
        raise DataError(
            f"a thread that collates has made nothing of step {step + 1} for "
            f"{STALLED_SECONDS:g} s; {self._doing()}",
            hint="look at the disk that the prepared data lies on, or set "
            "`dataloader_num_workers: 0`",
            where=f"step {step + 1}",
            exit_code=ExitCode.OUTSIDE_FAILED,
        )
