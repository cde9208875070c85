"""``Outside``: a tracker in a process of its own, which can do nothing to the run.

The run puts numbers into a queue that has an end; a thread writes them to the process, another
hears its answers. What is too slow loses lines, what fails is left out: one warning for either.
When the run ends it has a few seconds.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tunesmith.log import get_logger
from tunesmith.tracking.ids import RunIds
from tunesmith.tracking.order import Order
from tunesmith.tracking.trackers import Metrics, as_number

logger = get_logger(__name__)

LINES = 1000
"""Lines that wait for a slow service at most."""

PATIENCE = 15.0
"""Seconds that all trackers together have, after the run's end, for what they have not sent."""

_RANKS = frozenset({"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"})
"""Environment of the run's processes: with it this one would wait for the other ranks."""


class Outside:
    """Tells one service of the run. No method waits or raises, but for ``wait``, which waits.

    ``start`` holds what the service is told first: the settings of the order, and the config.
    """

    def __init__(self, order: Order, start: Mapping[str, Any], folder: Path, ids: RunIds) -> None:
        self.title = order.title
        self._name = order.name
        self._ids = ids
        self._waiting: queue.Queue[str | None] = queue.Queue(LINES)
        self._has_failed = threading.Event()
        self._is_late = False
        self._waiting.put(json.dumps({"client": order.client, **start}, default=str))
        try:
            process = _started(order, folder / f"{self._name}.log")
        except OSError as error:
            self._fail(str(error))
            self._process = None
            return
        self._process = process
        threading.Thread(target=self._send, args=(process,), daemon=True).start()
        self._listener = threading.Thread(target=self._listen, args=(process,), daemon=True)
        self._listener.start()

    def log(self, step: int, metrics: Metrics) -> None:
        """Queue the numbers under the names that the services' pages group: ``train/loss``."""
        if self._has_failed.is_set():
            return
        numbers = {_grouped(name): as_number(value) for name, value in metrics.items()}
        try:
            self._waiting.put_nowait(json.dumps({"step": step, "metrics": numbers}, default=str))
        except queue.Full:
            if not self._is_late:
                logger.warning("%s is slower than the run: it misses some steps", self.title)
            self._is_late = True

    def end(self) -> None:
        """Let it know that no more will come."""
        if self._process is None:
            return
        try:
            self._waiting.put_nowait(None)
        except queue.Full:  # a line gives up its place
            with suppress(queue.Empty):  # unless the sender has taken all of them by now
                self._waiting.get_nowait()
            self._waiting.put_nowait(None)

    def wait(self, seconds: float) -> None:
        """Wait so long for it to be done, and end its process then."""
        if self._process is None:
            return
        self._listener.join(max(0.0, seconds))
        if self._listener.is_alive():
            self._fail(f"it was not done {PATIENCE:.0f} seconds after the run, and was ended")
            _kill(self._process)
        self._process = None

    def _send(self, process: subprocess.Popen[str]) -> None:
        """Write what waits to the process, until the end; the listener says why it cannot."""
        assert process.stdin is not None, "asked for below"
        try:
            with process.stdin as pipe:
                while (line := self._waiting.get()) is not None:
                    pipe.write(line + "\n")
                    pipe.flush()
        except OSError:
            self._has_failed.wait()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        """Hear the answers of the process, until its end."""
        assert process.stdout is not None, "asked for below"
        with process.stdout as pipe:
            for line in pipe:
                try:
                    self._hear(json.loads(line))
                except (OSError, ValueError) as error:
                    logger.warning("%s: its run cannot be found again: %s", self.title, error)
        code = process.wait()
        if code != 0:
            self._fail(f"its process ended with code {code}")

    def _hear(self, said: Mapping[str, Any]) -> None:
        if "failed" in said:
            self._fail(said["failed"])
            return
        if url := said["opened"]["url"]:
            logger.info("%s: %s", self.title, url)
        self._ids.keep(self._name, said["opened"]["id"])

    def _fail(self, why: str) -> None:
        if not self._has_failed.is_set():
            logger.warning(
                "%s is left out from now on: %s. The run goes on; metrics.jsonl has all numbers",
                *(self.title, why.rstrip(".")),
            )
        self._has_failed.set()


class Outsiders:
    """All of them as one tracker, so that those that hang at the end hang at the same time."""

    def __init__(self, trackers: Sequence[Outside]) -> None:
        self._trackers = trackers

    def log(self, step: int, metrics: Metrics) -> None:
        """Tell each."""
        for tracker in self._trackers:
            tracker.log(step, metrics)

    def close(self) -> None:
        """Wait ``PATIENCE`` seconds at most for all of them to be done."""
        for tracker in self._trackers:
            tracker.end()
        deadline = time.monotonic() + PATIENCE
        for tracker in self._trackers:
            tracker.wait(deadline - time.monotonic())


def _started(order: Order, log_file: Path) -> subprocess.Popen[str]:
    """Its process, which signals to the run do not reach."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if name not in _RANKS}
    with log_file.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "tunesmith.tracking.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**inherited, **order.env},
            start_new_session=True,
        )


def _kill(process: subprocess.Popen[str]) -> None:
    """End the process, and those that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _grouped(name: str) -> str:
    return f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}"
