"""Sections ``parallel`` and ``precision``: mesh sizes and dtypes."""

from __future__ import annotations

from typing import Literal

from tunesmith.config.section import Section, key


class PrecisionSection(Section):
    """In which numbers weights are kept and multiplied."""

    bf16: bool | Literal["auto"] | None = key(
        None,
        "bfloat16; `auto` where the device multiplies it well.",
        flat="bf16",
        readers="tunesmith.runs.precision",
    )
    fp16: bool | None = key(
        None,
        "float16 compute with fp32 weights and a loss scaler.",
        flat="fp16",
        readers="tunesmith.runs.precision",
    )
    tf32: bool | Literal["auto"] | None = key(
        None, "TensorFloat-32 for fp32 products.", flat="tf32", readers="tunesmith.runs.train"
    )
    master_weights: Literal["fp32", "bf16"] | None = key(
        None,
        "Weights of full fine-tuning under bf16.",
        flat="master_weights",
        when=lambda c: c.adapters.kind is None,
        why="adapters are always in fp32",
        readers="tunesmith.runs.precision",
    )
    deterministic: bool = key(
        False,
        "Bit-identical runs on a GPU, at a cost.",
        flat="deterministic",
        readers="tunesmith.runs.train",
    )
