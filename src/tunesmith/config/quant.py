"""Section ``quant``: base weights in 4 or 8 bits."""

from __future__ import annotations

from typing import Any

from tunesmith.config.section import Section, key


class QuantSection(Section):
    """How frozen base weights are stored."""

    load_in_4bit: bool = key(
        False,
        "bitsandbytes NF4.",
        flat="load_in_4bit",
        readers="tunesmith.models.quantize tunesmith.runs.compile tunesmith.runs.memory "
        "tunesmith.runs.plan",
    )
    load_in_8bit: bool = key(
        False,
        "bitsandbytes LLM.int8().",
        flat="load_in_8bit",
        readers="tunesmith.models.quantize tunesmith.runs.compile tunesmith.runs.memory "
        "tunesmith.runs.plan tunesmith.runs.preflight.invariance",
    )
    bnb_args: dict[str, Any] | None = key(
        None,
        "Further arguments of BitsAndBytesConfig.",
        flat="bnb_config_kwargs",
        when=lambda c: c.quant.load_in_4bit or c.quant.load_in_8bit,
        why="neither load_in_4bit nor load_in_8bit is on",
        readers="tunesmith.models.quantize",
    )
