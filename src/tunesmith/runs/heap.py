"""Freed memory goes back to the system where a run changes what it does."""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """Return what the C library keeps of freed memory; where it cannot be asked, nothing happens.

    Between pieces that live on, glibc keeps what was freed for the next that asks. What loading and
    probing leave behind would lie there until the end of the run.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
