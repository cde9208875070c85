"""``RunPlan`` -> ``Run``: the only wiring, in reading order."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedModel

from tunesmith.checkpoint.load import Saved, restore
from tunesmith.checkpoint.save import CheckpointStore
from tunesmith.checkpoint.saves import Saves
from tunesmith.checkpoint.state import TrainState
from tunesmith.checkpoint.weights import ADAPTER, MODEL, ModelFiles, NamedTensors
from tunesmith.data.build import Progress
from tunesmith.data.known import KnownReference
from tunesmith.data.live import WindowStream
from tunesmith.data.merge import LEDGER
from tunesmith.data.prepare import silent
from tunesmith.data.stream import MapStream, Stream
from tunesmith.dist.mesh import Mesh
from tunesmith.engine.events import Events
from tunesmith.engine.latch import Latch
from tunesmith.engine.report import Reporter
from tunesmith.engine.run import Run
from tunesmith.engine.scaling import LossScale, Scale, Unscaled
from tunesmith.engine.signals import StopFlag
from tunesmith.engine.step import Backward
from tunesmith.models.adapters import ADAPTER as ADAPTER_NAME
from tunesmith.models.adapters import AdapterInfo, add_adapter
from tunesmith.models.freeze import train_everything
from tunesmith.models.load import load_model
from tunesmith.models.policy import Policy
from tunesmith.models.quantize import build_quantization
from tunesmith.models.state import adapter_state, fill_adapter, fill_model, full_state
from tunesmith.models.tokenizer import check_vocabulary, save_tokenizer
from tunesmith.objectives.objective import Objective
from tunesmith.optim.build import build_optimizer
from tunesmith.optim.groups import build_groups
from tunesmith.optim.optimizer import Optimizer
from tunesmith.optim.schedules import build_schedule
from tunesmith.parallel.apply import apply
from tunesmith.patches.lora import fuse_adapters
from tunesmith.runs.aim import build_objective
from tunesmith.runs.guarding import build_guard
from tunesmith.runs.handed import adopt
from tunesmith.runs.material import Material
from tunesmith.runs.plan import DTYPES, RunPlan
from tunesmith.runs.references import (
    HELD_OUT,
    TRAIN,
    Compared,
    Sources,
    copy_of,
    with_reference,
)
from tunesmith.runs.streams import StreamLedger, training_stream


@dataclass(frozen=True, slots=True)
class Assembled:
    """A run, the state it starts from, and the recipe for everything loadable that it writes.

    ``from_base`` is false where a module was handed in, whose weights no folder holds.
    """

    run: Run
    state: TrainState
    files: ModelFiles
    adapter: AdapterInfo | None
    from_base: bool


@dataclass(frozen=True, slots=True)
class Around:
    """What stands around a run.

    ``splits`` are those whose batches will be drawn; ``progress`` hears how far a reference is
    asked about them before the first step.
    """

    callbacks: Sequence[object] = ()
    stop: StopFlag | None = None
    splits: Collection[str] = (TRAIN, HELD_OUT)
    progress: Progress = silent


ALONE = Around()
"""Nobody listens, and every split is drawn from."""


def assemble(
    plan: RunPlan,
    material: Material,
    mesh: Mesh,
    *,
    saved: Saved | None = None,
    model: PreTrainedModel | None = None,
    around: Around = ALONE,
) -> Assembled:
    """The run that the plan describes, resumed from ``saved`` where that is given.

    ``model`` replaces what would be loaded. The plan's patches must be applied.
    """
    objective = build_objective(plan.config.objective)
    from_base, handed_base = model is None, None
    if model is None:
        model = _load(plan, material, mesh, saved)
    else:
        handed_base = _hand_in(model, plan, material, mesh, saved, objective)
    adapter = _make_trainable(plan, material, model)
    fuse_adapters(model, ADAPTER_NAME)
    apply(model, mesh, plan.treatment)
    policy = _policy(plan, model)
    start = replace(material, base=material.began_from or material.base)
    sources = Sources(
        base=start.base,
        load=partial(_frozen, plan, start, mesh, policy.compute_dtype, handed_base),
        has_adapter=adapter is not None,
        is_start=saved is None and start.base == material.base,
        from_base=from_base,
    )
    compared = with_reference(
        objective, plan, material, policy, sources, around.splits, around.progress
    )
    files = model_files(policy, material, adapter)
    run = _build(plan, material, mesh, policy, compared, files, around)
    state = TrainState()
    if saved is not None:
        state = put_back(run, files, saved, with_weights=adapter is not None)
    return Assembled(run, state, files, adapter, from_base)


def _hand_in(
    model: PreTrainedModel,
    plan: RunPlan,
    material: Material,
    mesh: Mesh,
    saved: Saved | None,
    objective: Objective,
) -> PreTrainedModel | None:
    """Make a model that was handed in the run's own; a copy of it where one is compared with."""
    adopt(model, plan, mesh.device)
    base = copy_of(model, objective, plan.config.adapters)
    if saved is not None and plan.config.adapters.kind is None:
        model.load_state_dict(_load(plan, material, mesh, saved).state_dict())
    return base


def _build(
    plan: RunPlan,
    material: Material,
    mesh: Mesh,
    policy: Policy,
    compared: Compared,
    files: ModelFiles,
    around: Around,
) -> Run:
    """The run of a policy and its objective, at its first step."""
    objective, known = compared.objective, compared.known
    seed, section = plan.config.batch.seed, plan.config.optim
    scale: Scale = Unscaled() if plan.compute_dtype.value != "float16" else LossScale(mesh.device)
    groups = build_groups(policy.model, section)
    optimizer = build_optimizer(groups, section, mesh.device, seed=seed)
    stream = training_stream(
        material.train, material.windows, plan.train_order, mesh, known.get(TRAIN)
    )
    guard = build_guard(
        plan.config.guard,
        Path(plan.config.checkpoint.output_dir),
        has_scale=isinstance(scale, LossScale),
        rows_of=stream.rows,
    )
    report = Reporter(mesh, around.stop, guard)
    return Run(
        policy=policy,
        objective=objective,
        optimizer=optimizer,
        schedule=build_schedule(section, plan.steps.value, plan.warmup_steps.value),
        stream=stream,
        held_out=_held_out(plan, material, mesh, known.get(HELD_OUT)),
        forward_backward=Backward(
            policy, objective, mesh.device, seed, scale=scale, look_up=report.look_up
        ),
        shard=lambda batch: batch,
        mesh=mesh,
        max_norm=section.max_grad_norm,
        cadence=plan.cadence,
        checkpoints=_saves(plan, files, optimizer, scale),
        report=report,
        latch=Latch(mesh, holds=not guard.skips),
        seed=seed,
        device=mesh.device,
        events=Events([*around.callbacks, *_accountants(plan, stream)]),
        scale=scale,
    )


def _saves(plan: RunPlan, files: ModelFiles, optimizer: Optimizer, scale: Scale) -> Saves:
    """Where the run's state goes."""
    section = plan.config.checkpoint
    store = CheckpointStore(
        output_dir=Path(section.output_dir),
        files=files,
        optimizer=None if section.weights_only else optimizer,
        identity=plan.identity,
        extra=scale.to_json,
        keep=section.keep,
    )
    return Saves(store, in_background=section.in_background)


def put_back(run: Run, files: ModelFiles, saved: Saved, *, with_weights: bool = True) -> TrainState:
    """The state of ``saved``, its tensors put into the run's parts in place.

    Without ``with_weights`` they are there already: the model was loaded from the checkpoint.
    """
    fill = fill_adapter if files.stem == ADAPTER else fill_model

    def load_weights(tensors: NamedTensors) -> None:
        if with_weights:
            fill(run.policy, tensors)

    if saved.extra:
        run.scale.load(saved.extra)
    return restore(saved, load_weights=load_weights, optimizer=run.optimizer)


def _accountants(plan: RunPlan, stream: Stream) -> list[object]:
    """The callback that accounts for a stream; what is prepared as a whole is accounted for."""
    if not isinstance(stream, WindowStream):
        return []
    return [StreamLedger(stream, Path(plan.config.checkpoint.output_dir) / LEDGER)]


def model_files(policy: Policy, material: Material, adapter: AdapterInfo | None) -> ModelFiles:
    """How a folder that others can load is written: a checkpoint's top level, and the export."""
    template = material.template.text if material.template is not None else None

    def write_companions(folder: Path) -> None:
        save_tokenizer(material.tokenizer, folder, template)
        if adapter is not None:
            text = json.dumps(adapter.adapter_config, indent=2, sort_keys=True) + "\n"
            (folder / "adapter_config.json").write_text(text, encoding="utf-8")
            return
        policy.model.config.save_pretrained(folder)
        if policy.model.generation_config is not None:
            policy.model.generation_config.save_pretrained(folder)

    if adapter is not None:
        return ModelFiles(lambda: adapter_state(policy).items(), ADAPTER, write_companions)
    return ModelFiles(lambda: full_state(policy).items(), MODEL, write_companions)


def _load(plan: RunPlan, material: Material, mesh: Mesh, saved: Saved | None) -> PreTrainedModel:
    """The base; a full fine-tuning that is resumed starts from its checkpoint's own weights."""
    base = material.base
    if saved is not None and plan.config.adapters.kind is None:
        base = replace(base, path=saved.path)
    quantization = build_quantization(plan.config.quant, DTYPES[plan.compute_dtype.value])
    model = load_model(
        base, DTYPES[plan.weights_dtype.value], quantization, mesh.device, plan.attention.value
    )
    check_vocabulary(material.tokenizer, model.get_input_embeddings().weight.shape[0])
    return model


def _make_trainable(
    plan: RunPlan, material: Material, model: PreTrainedModel
) -> AdapterInfo | None:
    """Put the adapter in, or let everything train."""
    if plan.config.adapters.kind is None:
        train_everything(model)
        return None
    base = material.base
    return add_adapter(
        model,
        plan.config.adapters,
        plan.config.batch.seed,
        base_name=base.original if base.kind == "hub" else str(base.path),
        revision=base.commit,
    )


def _policy(plan: RunPlan, model: PreTrainedModel) -> Policy:
    """The policy; autocast where trained fp32 weights stand beside half-precision arithmetic."""
    compute = DTYPES[plan.compute_dtype.value]
    mixed = compute != torch.float32 and any(
        parameter.requires_grad and parameter.dtype == torch.float32
        for parameter in model.parameters()
    )
    policy = Policy(
        model,
        plan.architecture,
        layout=plan.patches.layout,
        compute_dtype=compute if mixed else None,
    )
    policy.train()
    return policy


def _frozen(
    plan: RunPlan,
    material: Material,
    mesh: Mesh,
    compute_dtype: torch.dtype | None,
    base: PreTrainedModel | None,
) -> Policy:
    """The base once more (``base`` where it was handed in), computing as the policy does."""
    model = _load(plan, material, mesh, None) if base is None else base
    apply(model, mesh, plan.treatment)
    layout = plan.patches.layout
    return Policy(model, plan.architecture, layout=layout, compute_dtype=compute_dtype)


def _held_out(
    plan: RunPlan, material: Material, mesh: Mesh, known: KnownReference | None
) -> MapStream | None:
    if material.held_out is None:
        return None
    return MapStream(material.held_out, plan.held_out_order, mesh, known)
