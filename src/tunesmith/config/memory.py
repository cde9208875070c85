"""Section ``memory``: recompute and compile."""

from __future__ import annotations

from typing import Any

from tunesmith.config.section import Section, key


class MemorySection(Section):
    """What is traded for memory."""

    gradient_checkpointing: bool | None = key(
        None,
        "Recompute each block in the backward pass.",
        flat="gradient_checkpointing",
        readers="tunesmith.parallel.activations",
    )
    gradient_checkpointing_kwargs: dict[str, Any] | None = key(
        None,
        "axolotl's `use_reentrant`; ours is never reentrant.",
        flat="gradient_checkpointing_kwargs",
        when=lambda c: bool(c.memory.gradient_checkpointing),
        why="gradient_checkpointing is not on",
        readers="tunesmith.parallel.activations",
    )
