"""The process that talks to one service: an order on its stdin, then a line of JSON a step.

    python -P -m tunesmith.tracking.child

It answers on its stdout, a line of JSON each: ``{"opened": {"id": ..., "url": ...}}`` once, and
``{"failed": "..."}`` where it gives up. Its stdin's end is the run's end. What a service's package
prints goes to stderr, and what it asks is answered by nobody. Nothing of it is the run's own: a
package may raise, hang, print, patch, wait at exit or take the process with it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

from tunesmith.registry import resolve

ORPHANED = 60.0
"""Seconds that are left for finishing when the run's process is gone."""


def main() -> int:
    """0 where everything was taken, else 1."""
    orders, answers = _take_over()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()

    def answer(**said: Any) -> None:
        answers.write(json.dumps(said) + "\n")
        answers.flush()

    try:
        _serve(orders, answer)
    except Exception as error:
        text = " ".join(str(error).split())
        answer(failed=f"{type(error).__name__}: {text}" if text else type(error).__name__)
        return 1
    return 0


def _serve(orders: TextIO, answer: Callable[..., None]) -> None:
    order = json.loads(orders.readline())
    open_it: Any = resolve(order["client"])
    opened = open_it(order["settings"])
    opened.tracker.store_init_configuration(order["config"])
    answer(opened={"id": opened.id, "url": opened.url})
    for line in orders:
        told = json.loads(line)
        opened.tracker.log(told["metrics"], step=told["step"])
    opened.tracker.finish()


def _take_over() -> tuple[TextIO, TextIO]:
    """The two pipes, out of reach of what packages read and print."""
    orders = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return orders, answers


def _end_with(parent: int) -> None:
    """End this process some time after the run's: nobody is left to end one that hangs."""
    while os.getppid() == parent:
        time.sleep(1.0)
    time.sleep(ORPHANED)
    os._exit(1)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Packages wait at exit, without a limit: what was to be finished is.
    os._exit(code)
