"""Optimizers of bitsandbytes with 8- or 32-bit moments, where that package is installed."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch


@cache
def bnb_class(name: str) -> type[torch.optim.Optimizer]:
    """The class of ``bitsandbytes.optim``, except that moments of embeddings always have 32 bits.

    transformers' Trainer does the same, through bitsandbytes' registry of exceptions. That one is
    kept for the whole process by ``id()`` of the parameter and outlives the optimizer; here the
    group says it.
    """
    import bitsandbytes

    kind: Any = getattr(bitsandbytes.optim, name)

    class Wide(kind):  # type: ignore[misc]
        """Reads ``is_embedding`` of each group."""

        def get_config(self, gindex: int, pindex: int, group: dict[str, Any]) -> dict[str, Any]:
            """What this parameter is updated with."""
            config: dict[str, Any] = super().get_config(gindex, pindex, group)
            return config | ({"optim_bits": 32} if group["is_embedding"] else {})

    Wide.__name__ = f"Bnb{name}"
    return Wide
