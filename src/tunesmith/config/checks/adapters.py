"""Rules for adapters and for quantised bases."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunesmith.config.checks.rule import Rule, conflict, missing, out_of_range
from tunesmith.config.schema import RunConfig
from tunesmith.config.words import given
from tunesmith.errors import REMOVE, Problem
from tunesmith.registry import nearest

BNB_ARGUMENTS = (
    *("bnb_4bit_compute_dtype", "bnb_4bit_quant_storage"),
    *("bnb_4bit_quant_type", "bnb_4bit_use_double_quant"),
    *("llm_int8_enable_fp32_cpu_offload", "llm_int8_has_fp16_weight"),
    *("llm_int8_skip_modules", "llm_int8_threshold"),
)
"""What ``bnb_config_kwargs`` may hold; the widths have keys of their own."""

_FLOATS = ("bfloat16", "float16", "float32")
BNB_NAMES: Mapping[str, Sequence[Any]] = {
    "bnb_4bit_compute_dtype": _FLOATS,
    "bnb_4bit_quant_storage": ("uint8", *_FLOATS),
    "bnb_4bit_quant_type": ("nf4", "fp4"),
    "bnb_4bit_use_double_quant": (True, False),
}
"""The values of those that are chosen by name."""


_EVERY_LINEAR = ("all-linear", "all_linear", "all")
_NAMES = re.compile(r"[\w.]+( *, *[\w.]+)+")


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
    if targets in _EVERY_LINEAR:
        yield out_of_range(
            "lora_target_modules",
            f"no module is called `{targets}`",
            {"lora_target_modules": REMOVE, "lora_target_linear": True},
        )
        return
    if _NAMES.fullmatch(targets):
        names = [name.strip() for name in targets.split(",")]
        yield out_of_range(
            "lora_target_modules",
            f"one text is a regular expression, and no module is called `{targets}`",
            {"lora_target_modules": names},
            f"write a list: `lora_target_modules: [{', '.join(names)}]`",
        )
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


def bnb_arguments(config: RunConfig) -> Iterator[Problem]:
    """Only arguments that bitsandbytes has, and names of formats that exist."""
    for name, value in (config.quant.bnb_args or {}).items():
        key, names = f"bnb_config_kwargs.{name}", BNB_NAMES.get(name, ())
        if name not in BNB_ARGUMENTS:
            meant = nearest(name, BNB_ARGUMENTS)
            edit: dict[str, Any] = {key: REMOVE}
            edit |= {f"bnb_config_kwargs.{meant}": value} if meant else {}
            fix = f"did you mean `{meant}`?" if meant else f"one of: {', '.join(BNB_ARGUMENTS)}"
            yield out_of_range(key, f"bitsandbytes has no argument `{name}`", edit, fix)
        elif names and value not in names:
            spelt = {str(each): each for each in names}
            wanted = spelt.get(nearest(str(value), spelt) or "", names[0])
            message = f"must be {' or '.join(f'`{each}`' for each in names)}, not {given(value)}"
            yield out_of_range(key, message, {key: wanted})


RULES: tuple[Rule, ...] = (
    Rule(("load_in_4bit", "load_in_8bit", "adapter"), quantised_base),
    Rule(("adapter", "load_in_4bit", "load_in_8bit"), qlora_is_4bit),
    Rule(("adapter", "lora_target_linear", "lora_target_modules"), has_targets),
    Rule(("lora_target_modules",), targets_are_readable),
    Rule(("bnb_config_kwargs",), bnb_arguments),
)
