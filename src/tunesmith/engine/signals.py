"""A polite stop: a signal asks, and whoever has something to save answers before it ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tunesmith.log import get_logger

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""SIGUSR1 is what Slurm sends ahead of a time limit, where it is asked to."""

log = get_logger(__name__)


class Abandoned(Exception):
    """A step or an evaluation was left in its middle because somebody asked to stop."""


class StopFlag:
    """Whether this process was asked to stop, and by what.

    ``is_patient`` while the body looks at the flag by itself; otherwise a signal ends it at once.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.is_patient = False

    @property
    def is_set(self) -> bool:
        """Whether somebody asked."""
        return bool(self.reason)

    def request(self, reason: str) -> None:
        """Ask for a stop; the first reason stays."""
        self.reason = self.reason or reason

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Within the body a signal sets the flag and nothing else."""
        before, self.is_patient = self.is_patient, True
        try:
            yield
        finally:
            self.is_patient = before

    def end_if_asked(self) -> None:
        """End here where a signal asked before anything looked at the flag.

        Python drops what is raised inside of a finaliser: the flag remembers.

        Raises:
            KeyboardInterrupt: somebody asked.
        """
        if self.is_set:
            raise KeyboardInterrupt(self.reason)


@contextmanager
def listening(flag: StopFlag) -> Iterator[StopFlag]:
    """Let SIGTERM, SIGINT and SIGUSR1 set ``flag``, and end the body unless the flag is patient.

    While it is patient a second Ctrl-C ends the body at once, a second of the others does nothing:
    who sends those may send them twice, and a save is under way. Outside of the main thread, where
    Python hears no signals, nothing is installed.

    Raises:
        KeyboardInterrupt: a signal came, and the body was not patient.
    """
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {number: signal.getsignal(number) for number in STOPPING}

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        is_second = flag.is_set
        name = signal.Signals(number).name
        flag.request(name)
        if not flag.is_patient or (is_second and number == signal.SIGINT):
            raise KeyboardInterrupt(name)
        if not is_second:
            log.warning("stopping; the same command goes on from here (Ctrl-C to stop at once)")

    for number in STOPPING:
        signal.signal(number, stop)
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
