"""Section ``memory``: recompute."""

from __future__ import annotations

from tunesmith.config.section import Section, key


class MemorySection(Section):
    """What is traded for memory."""

    gradient_checkpointing: bool | None = key(
        None,
        "Recompute each block in the backward pass; left out, as many blocks as memory asks for.",
        flat="gradient_checkpointing",
        readers="tunesmith.runs.memory",
    )
