"""Freed memory goes back to the system where a run changes what it does."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Mapping

from tunesmith.checkpoint.state import TrainState
from tunesmith.engine.run import Run


def give_back(*, cycles: bool = False) -> None:
    """Return what the C library keeps of freed memory; where it cannot be asked, nothing happens.

    Between pieces that live on, glibc keeps what was freed for the next that asks. What loading and
    probing leave behind would lie there until the end of the run. ``cycles`` looks for pieces that
    hold each other as well: some tenths of a second, so once, and not after every probe.
    """
    if cycles:
        gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class GivesBack:
    """A callback: an evaluation's and a save's pieces do not lie under the steps that follow."""

    def evaluated(self, run: Run, state: TrainState, result: Mapping[str, float]) -> None:
        """Held-out data was looked at."""
        give_back()

    def saved(self, run: Run, state: TrainState) -> None:
        """A checkpoint was written."""
        give_back()
