"""Services that go wrong, as a tracker's process opens them; what they are told is in ``told``."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from tunesmith.tracking.order import Opened


class Fake:
    """Writes down what it is told, a line each."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.file = Path(settings["told"]) if "told" in settings else None

    def _tell(self, *facts: Any) -> None:
        if self.file is not None:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(facts) + "\n")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self._tell("config", values)

    def log(self, values: dict[str, Any], step: int) -> None:
        self._tell(step, values)

    def finish(self) -> None:
        self._tell("finished")


def good(settings: dict[str, Any]) -> Opened:
    print("noise on stdout, which is not the run's")
    fake = Fake(settings)
    fake._tell("asked", settings, sys.stdin.read())
    return Opened(fake, "run-1", "https://pages.example/run-1")


def wandb(settings: dict[str, Any]) -> Opened:
    raise ConnectionError("no route\nto host")


def disk_full(settings: dict[str, Any]) -> Opened:
    class Full(Fake):
        def log(self, values: dict[str, Any], step: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return Opened(Full(settings))


def dies(settings: dict[str, Any]) -> Opened:
    os._exit(11)


def hangs(settings: dict[str, Any]) -> Opened:
    time.sleep(1000)
    raise AssertionError


def hangs_at_the_end(settings: dict[str, Any]) -> Opened:
    class Slow(Fake):
        def finish(self) -> None:
            time.sleep(1000)

    return Opened(Slow(settings))


mlflow, comet, swanlab, trackio, tensorboard = disk_full, dies, hangs, hangs_at_the_end, good
"""By the names that a run's trackers have."""
