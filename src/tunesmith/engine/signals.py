"""A polite stop: a signal asks, the loop answers after the step it is in."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tunesmith.log import get_logger

STOPPING = (signal.SIGTERM, signal.SIGINT)
log = get_logger(__name__)


class StopFlag:
    """Whether this process was asked to stop, and by what."""

    def __init__(self) -> None:
        self.reason = ""

    @property
    def is_set(self) -> bool:
        """Whether somebody asked."""
        return bool(self.reason)

    def request(self, reason: str) -> None:
        """Ask for a stop; the first reason stays."""
        self.reason = self.reason or reason


@contextmanager
def listening(flag: StopFlag) -> Iterator[StopFlag]:
    """Let SIGTERM and SIGINT set ``flag``; a second one ends the process as it would without us.

    Outside of the main thread, where Python hears no signals, nothing is installed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {number: signal.getsignal(number) for number in STOPPING}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        flag.request(signal.Signals(number).name)
        restore()
        log.warning("stopping after this step; the run can be resumed (again to stop at once)")

    for number in STOPPING:
        signal.signal(number, stop)
    try:
        yield flag
    finally:
        restore()
