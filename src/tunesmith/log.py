"""Logging that knows its rank: an entrypoint calls ``setup`` once, modules ask for a logger."""

from __future__ import annotations

import logging
import os
import re
import sys
from typing import TextIO

ROOT = "tunesmith"

CHATTY = ("bitsandbytes",)
"""Libraries that warn at import about what no user can act on (an optional CPU kernel)."""


_SECRET = re.compile(
    r"(^|_)(TOKEN|API_?KEY|KEY|SECRET|PASSWORD|PASSWD|CREDENTIALS?|WEBHOOK)($|_)", re.IGNORECASE
)
_LEAST = 8
"""Shorter values are no secrets, and may be any word."""

_USER = re.compile(r"(://)[^/\s@:]*:[^/\s@]*@")


def scrubbed(text: str) -> str:
    """The text with ``***`` for each value of an environment variable that is named like a secret,
    and for name and password in an address: libraries put them into their errors.
    """
    for name, value in os.environ.items():
        if len(value) >= _LEAST and value in text and _SECRET.search(name):
            text = text.replace(value, "***")
    return _USER.sub(r"\1***@", text)


class _Formatter(logging.Formatter):
    """What is logged, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line, and its traceback where it has one."""
        return scrubbed(super().format(record))


def get_logger(name: str) -> logging.Logger:
    """The logger of a module (pass ``__name__``); silent below warnings until ``setup`` ran."""
    return logging.getLogger(name if name.split(".")[0] == ROOT else f"{ROOT}.{name}")


class _RankFilter(logging.Filter):
    """Lets the main rank through, and of the others only warnings, marked with their rank."""

    def __init__(self, rank: int, world_size: int) -> None:
        super().__init__()
        self.rank = rank
        self.prefix = f"[rank {rank}] " if world_size > 1 else ""

    def filter(self, record: logging.LogRecord) -> bool:
        """True for what this rank says aloud."""
        record.rank = self.prefix
        return self.rank == 0 or record.levelno >= logging.WARNING


def setup(
    *, level: int | str = "INFO", rank: int = 0, world_size: int = 1, stream: TextIO | None = None
) -> logging.Logger:
    """The package's root logger, writing to ``stream`` (stderr) and to nowhere else.

    Calling it again replaces the handler, so that a worker can correct its rank. Other libraries'
    loggers are left as they are, but for the ``CHATTY`` ones, which tell errors only.
    """
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    logger = logging.getLogger(ROOT)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(_Formatter("%(rank)s%(message)s"))
    handler.addFilter(_RankFilter(rank, world_size))
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
    return logger
