"""bitsandbytes' 4-bit weights on CPUs with bf16 units: kept as they were loaded.

There, the first forward in evaluation mode repacks a layer's weight in place and rounds its scales
to bfloat16 (``Linear4bit.forward``). Afterwards the base is another one, for training too: an
evaluation would change the run, and a merge would add the adapter to values that it never saw.
"""

from __future__ import annotations

from torch import nn

FLAG = "support_avx512bf16_for_cpu"
"""The attribute by which a ``Linear4bit`` of bitsandbytes knows that the CPU has bf16 units."""


def keep_values(model: nn.Module) -> None:
    """Let no 4-bit layer of the model repack its weight; call it before the first forward."""
    for module in model.modules():
        if hasattr(module, FLAG):
            setattr(module, FLAG, False)
