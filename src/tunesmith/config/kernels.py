"""Section ``kernels``: the attention function."""

from __future__ import annotations

from tunesmith.config.section import Section, key


class KernelsSection(Section):
    """Which implementations to use; left out, the plan chooses."""

    attention: str | None = key(
        None,
        "`eager`, `sdpa`, `flash_attention_2`, `varlen`; chosen by device when left out.",
        flat="attn_implementation",
        readers="tunesmith.patches.plan",
    )
