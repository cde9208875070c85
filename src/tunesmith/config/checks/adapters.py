"""Rules for adapters and for quantised bases."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tunesmith.config.checks.rule import Rule, conflict, missing, out_of_range
from tunesmith.config.schema import RunConfig
from tunesmith.errors import REMOVE, Problem


def quantised_base(config: RunConfig) -> Iterator[Problem]:
    """Quantised weights cannot train, so they need an adapter, and one width at a time."""
    quant, kind = config.quant, config.adapters.kind
    if quant.load_in_4bit and quant.load_in_8bit:
        yield conflict(
            "load_in_8bit", "the base cannot be in 4 and in 8 bits", {"load_in_8bit": REMOVE}
        )
    for bits, on in ((4, quant.load_in_4bit), (8, quant.load_in_8bit)):
        if on and kind is None:
            yield conflict(
                f"load_in_{bits}bit",
                f"weights in {bits} bits cannot train, and there is no adapter",
                {f"load_in_{bits}bit": REMOVE},
                f"take `load_in_{bits}bit` out, or add an adapter "
                f"(`adapter: {'qlora' if bits == 4 else 'lora'}`)",
            )


def qlora_is_4bit(config: RunConfig) -> Iterator[Problem]:
    """``qlora`` means a base in 4 bits."""
    if config.adapters.kind != "qlora":
        return
    if config.quant.load_in_8bit and not config.quant.load_in_4bit:
        yield conflict("load_in_8bit", "`adapter: qlora` has a base in 4 bits", {"adapter": "lora"})
    elif not config.quant.load_in_4bit:
        yield missing("load_in_4bit", "`adapter: qlora` needs it", {"load_in_4bit": True})


def has_targets(config: RunConfig) -> Iterator[Problem]:
    """An adapter says what it adapts."""
    adapters = config.adapters
    if adapters.kind is None:
        return
    if not adapters.target_linear and not adapters.target_modules:
        yield missing(
            "lora_target_linear",
            f"`adapter: {adapters.kind}` has nothing to adapt",
            {"lora_target_linear": True},
            "add `lora_target_linear: true` (every linear layer) or list `lora_target_modules`",
        )


def targets_are_readable(config: RunConfig) -> Iterator[Problem]:
    """One text is a regular expression over module names, and must be one."""
    targets = config.adapters.target_modules
    if not isinstance(targets, str):
        return
    try:
        re.compile(targets)
    except (re.error, RecursionError, OverflowError) as error:
        yield out_of_range(
            "lora_target_modules",
            f"`{targets}` is no regular expression: {error}",
            {"lora_target_modules": REMOVE, "lora_target_linear": True},
            "correct it, or take `lora_target_modules` out and use `lora_target_linear: true`",
        )


RULES: tuple[Rule, ...] = (
    Rule(("load_in_4bit", "load_in_8bit", "adapter"), quantised_base),
    Rule(("adapter", "load_in_4bit", "load_in_8bit"), qlora_is_4bit),
    Rule(("adapter", "lora_target_linear", "lora_target_modules"), has_targets),
    Rule(("lora_target_modules",), targets_are_readable),
)
