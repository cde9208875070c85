"""AdamW of bitsandbytes with 8- or 32-bit moments, where that package is installed."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch


@cache
def bnb_adamw_class() -> type[torch.optim.Optimizer]:
    """AdamW of bitsandbytes, except that the moments of embeddings always have 32 bits.

    transformers' Trainer does the same, through bitsandbytes' registry of exceptions. That one is
    kept for the whole process by ``id()`` of the parameter and outlives the optimizer; here the
    group says it.
    """
    import bitsandbytes

    class BnbAdamW(bitsandbytes.optim.AdamW):  # type: ignore[misc]
        """Reads ``is_embedding`` of each group."""

        def get_config(self, gindex: int, pindex: int, group: dict[str, Any]) -> dict[str, Any]:
            """What this parameter is updated with."""
            config: dict[str, Any] = super().get_config(gindex, pindex, group)
            return config | ({"optim_bits": 32} if group["is_embedding"] else {})

    return BnbAdamW
