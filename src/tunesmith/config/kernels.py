"""Section ``kernels``: the attention function and the compiler."""

from __future__ import annotations

from typing import Literal

from tunesmith.config.section import Section, key


class KernelsSection(Section):
    """Which implementations to use; left out, the plan chooses."""

    attention: str | None = key(
        None,
        "`eager` or `sdpa`, for models whose documents attention cannot keep apart; all others "
        "attend by `varlen` (flash kernels on a GPU), whatever is named.",
        flat="attn_implementation",
        readers="tunesmith.patches.plan",
    )
    compile: bool | Literal["auto"] = key(
        "auto",
        "Compile each block once; `auto`: on a GPU, where packed rows give it one shape.",
        flat="torch_compile",
        readers="tunesmith.runs.compile",
    )
