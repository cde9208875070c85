"""AdamW of bitsandbytes with 8- or 32-bit moments. Imported only where that package is there."""

from __future__ import annotations

from typing import Any

import bitsandbytes


class BnbAdamW(bitsandbytes.optim.AdamW):  # type: ignore[misc]
    """bitsandbytes' AdamW, except that the moments of embeddings always have 32 bits.

    transformers' Trainer does the same, through bitsandbytes' registry of exceptions. That one is
    kept for the whole process by ``id()`` of the parameter and outlives the optimizer; here the
    group says it.
    """

    def get_config(self, gindex: int, pindex: int, group: dict[str, Any]) -> dict[str, Any]:
        """What this parameter is updated with."""
        config: dict[str, Any] = super().get_config(gindex, pindex, group)
        return config | ({"optim_bits": 32} if group["is_embedding"] else {})
