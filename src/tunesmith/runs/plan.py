"""``RunPlan``: every value derived from config, machine, model and data, each with its reason.

Nothing is computed into the config. The plan is pure data: it is printed, saved as ``plan.json``,
and everything below reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch

from tunesmith.config.checkpoint import CheckpointSection
from tunesmith.config.environment import Environment, to_json
from tunesmith.config.evaluation import EvaluationSection
from tunesmith.config.flat import to_flat
from tunesmith.config.packing import PackingSection
from tunesmith.config.schema import RunConfig
from tunesmith.data.stream import MapStream, OrderSettings, Split
from tunesmith.dist.mesh import Mesh
from tunesmith.engine.cadence import Cadence, Rhythm, Timeline, build_cadence
from tunesmith.models.facts import Architecture
from tunesmith.optim.schedules import count_warmup
from tunesmith.parallel.blocks import Treatment
from tunesmith.patches.plan import PatchPlan, plan_patches
from tunesmith.runs.batches import accumulation, micro_batch
from tunesmith.runs.choices import Chosen
from tunesmith.runs.compile import choose_compile
from tunesmith.runs.memory import Layout, choose_recompute
from tunesmith.runs.precision import compute_dtype, determinism, weights_dtype
from tunesmith.runs.streams import mixture_of


@dataclass(frozen=True, slots=True)
class Facts:
    """What a plan is made from, beside the config: the machine, the model, the data.

    ``identity`` names base and data by content. ``estimated`` says that the data is a
    guess from a sample, and ``note`` how it was made; ``streams`` that ``train`` is the first
    window of a stream.
    """

    environment: Environment
    architecture: Architecture
    train: Split
    held_out: Split | None
    pad_id: int
    identity: Mapping[str, str]
    estimated: bool = False
    note: str = ""
    streams: bool = False


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run will do. The ``Chosen`` fields are in the order in which they are printed."""

    config: RunConfig
    identity: Mapping[str, Any]
    environment: Environment
    architecture: Architecture
    patches: PatchPlan
    train_order: OrderSettings
    held_out_order: OrderSettings
    cadence: Cadence
    device: Chosen[str]
    compute_dtype: Chosen[str]
    weights_dtype: Chosen[str]
    adapter: Chosen[str]
    attention: Chosen[str]
    compile: Chosen[bool]
    recompute: Chosen[int]
    packing: Chosen[bool]
    sequence_len: Chosen[int]
    micro_batch: Chosen[int]
    accumulation: Chosen[int]
    global_batch: Chosen[int]
    rows: Chosen[int]
    tokens: Chosen[int]
    trained_tokens: Chosen[int]
    steps_per_epoch: Chosen[int]
    steps: Chosen[int]
    warmup_steps: Chosen[int]
    evaluate: Chosen[str]
    save: Chosen[str]
    determinism: Chosen[str]

    @property
    def treatment(self) -> Treatment:
        """What is done to the model's blocks."""
        return Treatment(
            n_recomputed=self.recompute.value,
            compiled_tokens=self.train_order.pad_to if self.compile.value else None,
        )

    def chosen(self) -> Iterator[tuple[str, Chosen[Any]]]:
        """(name, choice) of every derived value, in the order of printing."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Chosen):
                yield field.name, value

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``plan.json``: config, identity, machine, patches, derived values."""
        return {
            "config": to_flat(self.config),
            "identity": dict(self.identity),
            "environment": to_json(self.environment),
            "patches": [
                {"name": p.name, "what": p.what, "where": p.where, "why": p.why, "since": p.since}
                for p in self.patches.patches
            ],
            "values": {name: choice.to_json() for name, choice in self.chosen()},
        }


def make_plan(config: RunConfig, facts: Facts) -> RunPlan:
    """The plan for one device; pure."""
    patches = plan_patches(
        config.kernels,
        isolates=facts.architecture.isolates,
        why=facts.architecture.isolates_why,
    )
    packing = choose_packing(config.packing, patches)
    micro = _token_budget(config.packing) or micro_batch(config.batch)
    summed = accumulation(config.batch, micro.value)
    compiled = choose_compile(config, facts.environment, patches, packed=packing.value)
    order = train_order(
        config, facts, (micro.value, summed.value), packed=packing.value, static=compiled.value
    )
    stream = MapStream(facts.train, order, Mesh.single("cpu"))
    timeline = Timeline(stream.steps, _progress(stream) if facts.streams else stream.epoch_at)
    cadence = build_cadence(
        config.evaluation,
        config.checkpoint,
        timeline,
        log_every=config.tracking.logging_steps,
        has_held_out=facts.held_out is not None,
    )
    compute = compute_dtype(config, facts.environment)
    weights = weights_dtype(config, compute.value)
    sizes = Layout(
        tokens=micro.value * config.packing.sequence_len,
        compute=compute.value,
        weights=weights.value,
        accumulation=summed.value,
        compiled=compiled.value,
    )
    global_batch = micro.value * summed.value
    guess = (facts.estimated, facts.estimated and config.batch.max_steps is None)
    return RunPlan(
        config=config,
        identity={
            **facts.identity,
            "seed": config.batch.seed,
            "steps": stream.steps,
            "global_batch": global_batch,
        },
        environment=facts.environment,
        architecture=facts.architecture,
        patches=patches,
        train_order=order,
        held_out_order=held_out_order(config, facts, patches),
        cadence=cadence,
        device=_device(facts.environment),
        compute_dtype=compute,
        weights_dtype=weights,
        adapter=_adapter(config),
        attention=Chosen(patches.attention, patches.reason, ("attn_implementation",)),
        compile=compiled,
        recompute=choose_recompute(config, facts.environment, facts.architecture, sizes),
        packing=packing,
        sequence_len=_sequence_len(config.packing, packed=packing.value),
        micro_batch=micro,
        accumulation=summed,
        global_batch=Chosen(global_batch, "micro batch x accumulation x 1 device"),
        **_sizes(facts, stream, config),
        warmup_steps=_warmup(config, stream.steps, guess=guess[1]),
        evaluate=_rhythm(cadence.evaluations, "held-out data", config.evaluation, guess),
        save=_rhythm(cadence.saves, "checkpoints", config.checkpoint, guess),
        determinism=determinism(config, facts.environment),
    )


def _progress(stream: MapStream) -> Callable[[int], float]:
    """The share of the run that is done: what stands for epochs where there are none."""
    return lambda step: step / stream.steps


def choose_packing(section: PackingSection, patches: PatchPlan) -> Chosen[bool]:
    """Whether documents share rows: as asked, unless this model cannot keep them apart."""
    if section.sample_packing and patches.layout == "rows":
        return Chosen(False, f"off although asked for: {patches.reason}", ("sample_packing",))
    why = "as asked" if section.sample_packing else "off"
    return Chosen(section.sample_packing, why, ("sample_packing",))


def train_order(
    config: RunConfig, facts: Facts, batch: tuple[int, int], *, packed: bool, static: bool
) -> OrderSettings:
    """How training rows are ordered, packed and cut into micro-batches of one shape or of many."""
    packing, data = config.packing, config.data
    micro, summed = batch
    return OrderSettings(
        seed=config.batch.seed,
        capacity=_capacity(packing),
        micro_batch=micro,
        accumulation=summed,
        epochs=config.batch.num_epochs,
        max_steps=config.batch.max_steps,
        packed=packed or _has_budget(packing),
        shuffle=not data.curriculum,
        in_order=packing.sequential,
        max_documents=packing.bin_size,
        group=packing.group_size,
        mixture=mixture_of(config),
        drop_last=data.drop_last,
        pad_multiple=packing.pad_to_multiple_of,
        group_by_length=data.group_by_length and not packing.sample_packing,
        pad_to=_pad_to(packing, micro, static=static),
        pad_id=facts.pad_id,
        workers=config.batch.workers or 0,
    )


def held_out_order(config: RunConfig, facts: Facts, patches: PatchPlan) -> OrderSettings:
    """How held-out rows are laid out: one pass, in the order of the data."""
    packing = config.packing
    asked = packing.eval_sample_packing
    packed = (packing.sample_packing if asked is None else asked) and patches.layout == "flat"
    return OrderSettings(
        seed=config.batch.seed,
        capacity=packing.eval_sequence_len or packing.sequence_len,
        micro_batch=config.batch.eval_batch_size or micro_batch(config.batch).value,
        packed=packed,
        shuffle=False,
        pad_id=facts.pad_id,
    )


def _has_budget(packing: PackingSection) -> bool:
    """Whether micro-batches are cut by tokens and not by rows."""
    return packing.batch_tokens is not None and not packing.sample_packing


def _capacity(packing: PackingSection) -> int:
    """Tokens that share a bin at most: those of a row, or of a whole micro-batch."""
    budget = packing.batch_tokens if _has_budget(packing) else None
    return max(packing.sequence_len, budget or 0)


def _token_budget(packing: PackingSection) -> Chosen[int] | None:
    """One bin a forward, where it takes as many rows as fit; else None."""
    if not _has_budget(packing):
        return None
    why = f"one of whole rows up to {_capacity(packing):,} tokens"
    return Chosen(1, why, ("batch_tokens",))


def _pad_to(packing: PackingSection, micro: int, *, static: bool) -> int | None:
    """Tokens that every micro-batch is filled up to, where shapes are to be static."""
    return _capacity(packing) * micro if packing.pad_to_sequence_len or static else None


def _sequence_len(section: PackingSection, *, packed: bool) -> Chosen[int]:
    longer = {
        "drop": "longer rows are dropped",
        "truncate": "longer rows are cut",
        "split": "longer rows are split",
    }.get(section.excess_length, "longer rows are an error")
    unit = "tokens in a packed row" if packed else "tokens in a row at most"
    return Chosen(section.sequence_len, f"{unit}; {longer}", ("sequence_len",))


def _device(environment: Environment) -> Chosen[str]:
    more = environment.n_devices - 1
    unused = f"; {more} more are not used: several devices are not built yet" if more else ""
    return Chosen(environment.device, f"{environment.device_name}{unused}")


def _adapter(config: RunConfig) -> Chosen[str]:
    section, quant = config.adapters, config.quant
    if section.kind is None:
        return Chosen("none", "full fine-tuning: every weight trains", ("adapter",))
    bits = "4-bit " if quant.load_in_4bit else "8-bit " if quant.load_in_8bit else ""
    return Chosen(
        section.kind,
        f"fp32 adapters of rank {section.rank} on a frozen {bits}base",
        ("adapter", "lora_r", "load_in_4bit", "load_in_8bit"),
    )


def _sizes(facts: Facts, stream: MapStream, config: RunConfig) -> dict[str, Chosen[int]]:
    """Rows, tokens and steps, from the index of the prepared data."""
    split, guess = facts.train, facts.estimated
    per_epoch = next(s for s in range(1, 1 << 40) if stream.epoch_at(s) >= 1.0 - 1e-9)
    asked = config.batch.max_steps is not None
    rows = "prepared rows to train on" + (f": {facts.note}" if facts.note else "")
    why = "max_steps" if asked else f"num_epochs {config.batch.num_epochs:g}"
    return {
        "rows": Chosen(len(split), rows, ("datasets",), guess),
        "tokens": Chosen(int(split.lengths.sum()), "their tokens", ("datasets",), guess),
        "trained_tokens": Chosen(
            round(float(sum(t.sum() for t in split.totals.values()))),
            "the ones that weigh in the loss",
            ("datasets",),
            guess,
        ),
        "steps_per_epoch": Chosen(per_epoch, "bins / global batch, the last one short", (), guess),
        "steps": Chosen(stream.steps, why, ("max_steps", "num_epochs"), guess and not asked),
    }


def _warmup(config: RunConfig, steps: int, *, guess: bool) -> Chosen[int]:
    optim = config.optim
    if optim.schedule == "constant":
        return Chosen(0, "lr_scheduler: constant has no warm-up", ("lr_scheduler",))
    count = count_warmup(optim, steps)
    if optim.warmup_steps is not None:
        why = "as asked" if count == optim.warmup_steps else "two for one: the first has rate 0"
    elif optim.warmup_ratio is not None:
        why = f"warmup_ratio {optim.warmup_ratio:g} of {steps} steps"
    else:
        why = "3 % of all steps, at most 100"
    follows = guess and optim.warmup_steps is None
    return Chosen(count, why, ("warmup_steps", "warmup_ratio"), follows)


def _rhythm(
    rhythm: Rhythm,
    what: str,
    section: EvaluationSection | CheckpointSection,
    guess: tuple[bool, bool],
) -> Chosen[str]:
    """When it is time. ``guess``: are the steps of an epoch estimated, and are all steps?"""
    steps, per_epoch = section.steps, section.per_epoch
    follows = guess[0] and per_epoch is not None if steps is None else guess[1] and steps < 1
    keys = tuple(
        info.flat
        for field in type(section).model_fields.values()
        for info in field.metadata
        if getattr(info, "flat", None)
    )
    if rhythm.unit == "never":
        return Chosen("never", f"no {what}", keys)
    if rhythm.unit == "epoch":
        return Chosen("every epoch", f"{what} at each epoch's end and at the last step", keys)
    return Chosen(
        "every step" if rhythm.every == 1 else f"every {rhythm.every} steps",
        f"{what}, and at the last step",
        keys,
        follows,
    )


DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
"""Torch's dtypes by the plan's words."""
