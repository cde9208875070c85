"""Logging that knows its rank: an entrypoint calls ``setup`` once, modules ask for a logger."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

ROOT = "tunesmith"

CHATTY = ("bitsandbytes",)
"""Libraries that warn at import about what no user can act on (an optional CPU kernel)."""


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
    handler.setFormatter(logging.Formatter("%(rank)s%(message)s"))
    handler.addFilter(_RankFilter(rank, world_size))
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
    return logger
