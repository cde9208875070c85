"""Whether blocks are compiled: where every micro-batch has the same shape."""

from __future__ import annotations

from tunesmith.config.environment import Environment
from tunesmith.config.schema import RunConfig
from tunesmith.patches.plan import PatchPlan
from tunesmith.runs.choices import Chosen

KEYS = ("torch_compile", "sample_packing", "pad_to_sequence_len")


def choose_compile(
    config: RunConfig, environment: Environment, patches: PatchPlan, *, packed: bool
) -> Chosen[bool]:
    """Compile each block once, or run them as they are, with the reason."""
    asked = config.kernels.compile
    if asked is False:
        return Chosen(False, "as asked", KEYS[:1])
    obstacle = _obstacle(config, patches, packed=packed)
    if obstacle:
        return Chosen(
            False, f"off{' although asked for' if asked is True else ''}: {obstacle}", KEYS
        )
    if asked is True:
        return Chosen(True, "as asked: each block once, for full rows", KEYS[:1])
    if environment.device != "cuda" or (environment.capability or (0, 0)) < (8, 0):
        return Chosen(False, f"auto: it pays on newer GPUs, not on {environment.device_name}", KEYS)
    return Chosen(True, "auto: each block once, for full rows", KEYS)


def _obstacle(config: RunConfig, patches: PatchPlan, *, packed: bool) -> str:
    """What makes micro-batches differ in shape, or stands in the compiler's way; else empty."""
    if patches.layout != "flat":
        return "one padded row a document changes shape with every batch"
    if not packed and not config.packing.pad_to_sequence_len:
        return "rows that are not packed change shape with every batch"
    if config.packing.pad_to_sequence_len is False:
        return "pad_to_sequence_len is false, so rows change shape with every batch"
    if config.quant.load_in_4bit or config.quant.load_in_8bit:
        return "quantised layers are not compiled"
    return ""
