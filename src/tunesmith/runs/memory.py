"""How many blocks make their activations again: as few as the device's memory allows."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.config.environment import Environment
from tunesmith.config.schema import RunConfig
from tunesmith.models.facts import Architecture
from tunesmith.models.footprint import HALF, WIDE, Footprint, Workload, footprint
from tunesmith.runs.choices import Chosen

GIB = 1024**3

RESERVED = 0.06
"""Of a device's memory: fragments of the allocator, what libraries take, and our own error."""

OUTSIDE = GIB
"""The context of the device and the workspaces of its libraries."""

NF4 = 0.53
"""Bytes a parameter in 4 bits, with the scales of its blocks."""

STATES = {
    "adamw_8bit": 2.1,
    "adamw_bnb_8bit": 2.1,
    "paged_adamw_8bit": 0.0,
    "paged_adamw_32bit": 0.0,
    "sgd": 0.0,
}
"""Bytes of state a trained parameter on the device; the others keep two moments in its dtype."""

KEYS = ("gradient_checkpointing", "micro_batch_size", "sequence_len")


@dataclass(frozen=True, slots=True)
class Layout:
    """What the plan has chosen before: tokens of a micro-batch, dtypes, accumulation, compiler."""

    tokens: int
    compute: str
    weights: str
    accumulation: int
    compiled: bool


def choose_recompute(
    config: RunConfig, environment: Environment, shape: Architecture, layout: Layout
) -> Chosen[int]:
    """The number of blocks that recompute, with the expected peak in the reason.

    What the user set is obeyed; else it is the smallest number that fits with a margin, since each
    block that recomputes costs its forward pass a second time.
    """
    asked = config.memory.gradient_checkpointing
    price = footprint(shape, workload(config, layout))
    if asked is None and environment.device == "cpu":
        return Chosen(0, f"off on a CPU; {_in_words(price, 0, environment)}", KEYS[:1])
    if asked is not None:
        n = shape.n_layers if asked else 0
        return Chosen(n, f"as asked; {_in_words(price, n, environment)}", KEYS[:1])
    budget = environment.memory_bytes * (1 - RESERVED) - OUTSIDE
    fitting = (n for n in range(shape.n_layers + 1) if price.peak(n) <= budget)
    n = next(fitting, shape.n_layers)
    fits = price.peak(n) <= budget
    short = "" if fits else "; this may not fit: lower micro_batch_size or sequence_len"
    return Chosen(n, _in_words(price, n, environment) + short, KEYS)


def workload(config: RunConfig, layout: Layout) -> Workload:
    """What the config asks of the device's memory."""
    quant, full = config.quant, config.adapters.kind is None
    half = layout.compute != "float32"
    stored = HALF if layout.weights != "float32" else WIDE
    trained = stored if full else WIDE
    base = NF4 if quant.load_in_4bit else 1.0 if quant.load_in_8bit else stored
    return Workload(
        tokens=layout.tokens,
        weight=base,
        adapter_rank=0 if full else config.adapters.rank,
        state=STATES.get(config.optim.optimizer, 2 * trained),
        gradient=trained,
        wide_sum=WIDE if layout.accumulation > 1 and trained == HALF else 0.0,
        cast=HALF if full and half and stored == WIDE else 0.0,
        activation=HALF if half else WIDE,
        compiled=layout.compiled,
    )


def _in_words(price: Footprint, n: int, environment: Environment) -> str:
    memory = f" of {environment.memory_bytes / GIB:.1f}" if environment.memory_bytes else ""
    if n == 0:
        what = f"all activations of {price.n_blocks} blocks are kept"
    elif n == price.n_blocks:
        what = f"every one of {n} blocks recomputes"
    else:
        what = f"{n} of {price.n_blocks} blocks recompute"
    return f"{what}: about {price.peak(n) / GIB:.1f}{memory} GiB"
