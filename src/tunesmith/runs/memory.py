"""How many blocks make their activations again: as few as the device's memory allows."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.config.environment import Environment
from tunesmith.config.schema import RunConfig
from tunesmith.models.facts import Architecture
from tunesmith.models.footprint import HALF, WIDE, Footprint, Workload, footprint
from tunesmith.models.host_footprint import HostFootprint, HostWork
from tunesmith.runs.aim import build_objective
from tunesmith.runs.choices import Chosen

GIB = 1024**3

RESERVED = 0.06
"""Of a device's memory: fragments of the allocator, what libraries take, and our own error."""

OUTSIDE = GIB
"""The context of the device and the workspaces of its libraries."""

NF4 = 0.53
"""Bytes a parameter in 4 bits, with the scales of its blocks."""

MOMENTS = {
    "sgd": 0,
    "adafactor": 0,
    "adagrad": 1,
    "rmsprop": 1,
    "muon": 1,
    "lion": 1,
    "ademamix": 3,
}
"""Numbers of state a trained number, by what an optimizer's name begins with; the others keep two.

Adafactor keeps sums of rows and columns, which are few.
"""

IN_32_BITS = ("lion", "ademamix", "rmsprop_bnb")
"""Optimizers of bitsandbytes, whose state is wide whatever the weights are."""

EIGHT_BITS = 1.05
"""Bytes of a state in 8 bits, with the scales of its blocks."""

HOST_OUTSIDE = 80 * 1024**2
"""What a process on a CPU holds beside tensors: tokenizer, tables of the data, library caches."""

HEAP = 0.07
"""Of a CPU's tensors: freed pieces between live ones, which the C library's heap keeps."""

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
        state=state_bytes(config.optim.optimizer, trained, paged=True),
        gradient=trained,
        wide_sum=WIDE if layout.accumulation > 1 and trained == HALF else 0.0,
        cast=HALF if full and half and stored == WIDE else 0.0,
        activation=HALF if half else WIDE,
        compiled=layout.compiled,
        copies_base=keeps_reference(config),
    )


def expected_memory(
    config: RunConfig,
    environment: Environment,
    shape: Architecture,
    layout: Layout,
    n_recomputed: int,
) -> Chosen[float]:
    """GiB at the most, with what they are: of the device, or of the host where that is a CPU."""
    if environment.device != "cpu":
        price = footprint(shape, workload(config, layout))
        return Chosen(
            round((price.peak(n_recomputed) + OUTSIDE) / GIB, 3),
            f"of the device: {_gib(price.static)} for weights, state and sums, "
            f"{_gib(price.gradients)} for gradients, {_gib(price.passing)} at the head, the rest "
            "for activations",
            KEYS,
        )
    host = HostFootprint(shape, host_work(config, layout, n_recomputed))
    phases = host.phases()
    return Chosen(
        round((phases.peak * (1 + HEAP) + HOST_OUTSIDE) / GIB, 3),
        f"of the host, beyond the libraries, most of it in {phases.worst}: {_gib(host.weights)} "
        f"for weights, {_gib(host.state)} for the optimizer, {_gib(host.gradients)} for gradients, "
        f"{_gib(host.kept())} for a block's activations, {_gib(host.head())} at the head; "
        f"{_gib(phases.step)} in a step, {_gib(phases.resume)} and {_gib(phases.export)} while "
        "resuming and exporting are rehearsed",
        KEYS,
    )


def host_work(config: RunConfig, layout: Layout, n_recomputed: int) -> HostWork:
    """What the config asks of the host's memory where it trains there."""
    quant, full = config.quant, config.adapters.kind is None
    half, narrow = layout.compute != "float32", layout.weights != "float32"
    device = workload(config, layout)
    quantised = quant.load_in_4bit or quant.load_in_8bit
    skipped, trained = set(config.preflight.skip), device.gradient
    return HostWork(
        tokens=layout.tokens,
        linear=device.weight,
        stored=HALF if narrow else WIDE,
        compute=HALF if half else WIDE,
        rank=0 if full else config.adapters.rank,
        drops=not full and config.adapters.dropout > 0,
        state=state_bytes(config.optim.optimizer, trained, paged=False),
        table_state=state_bytes(
            config.optim.optimizer.replace("8bit", "32bit"), trained, paged=False
        ),
        accumulates=layout.accumulation > 1,
        casts=full and half and not narrow,
        inputs_kept=5 if half and (quantised or (full and not narrow)) else 2,
        n_recomputed=n_recomputed,
        copies_to_save=config.checkpoint.in_background,
        rehearses="resume" not in skipped and not config.checkpoint.weights_only,
        rehearses_export="export" not in skipped,
        copies_base=device.copies_base,
    )


def keeps_reference(config: RunConfig) -> bool:
    """Whether a second base lies there in every step: ``references.with_reference`` makes one."""
    section = config.objective
    if section.precompute_reference or not build_objective(section).needs_reference:
        return False
    return config.adapters.kind is None or section.separate_reference


def state_bytes(optimizer: str, trained: float, *, paged: bool) -> float:
    """Bytes of an optimizer's state a trained number of ``trained`` bytes.

    With ``paged`` (a GPU) what is called so lies on the host and counts nothing.
    """
    name = optimizer.removeprefix("paged_")
    if paged and name != optimizer:
        return 0.0
    moments = next((n for stem, n in MOMENTS.items() if name.startswith(stem)), 2)
    if name.endswith("8bit"):
        return moments * EIGHT_BITS
    is_wide = name.endswith("32bit") or name.startswith(IN_32_BITS)
    return moments * (WIDE if is_wide else trained)


def _gib(n_bytes: float) -> str:
    return f"{n_bytes / GIB:.2f}"


def _in_words(price: Footprint, n: int, environment: Environment) -> str:
    memory = f" of {environment.memory_bytes / GIB:.1f}" if environment.memory_bytes else ""
    if n == 0:
        what = f"all activations of {price.n_blocks} blocks are kept"
    elif n == price.n_blocks:
        what = f"every one of {n} blocks recomputes"
    else:
        what = f"{n} of {price.n_blocks} blocks recompute"
    return f"{what}: about {price.peak(n) / GIB:.1f}{memory} GiB"
