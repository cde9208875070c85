"""``RunPlan`` -> ``Run``: the only wiring, in reading order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from transformers import PreTrainedModel

from tunesmith.checkpoint.load import Saved, restore
from tunesmith.checkpoint.save import CheckpointStore
from tunesmith.checkpoint.saves import Saves
from tunesmith.checkpoint.state import TrainState
from tunesmith.checkpoint.weights import ADAPTER, MODEL, ModelFiles, NamedTensors
from tunesmith.data.live import WindowStream
from tunesmith.data.merge import LEDGER
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
from tunesmith.optim.schedules import build_schedule
from tunesmith.parallel.apply import apply
from tunesmith.patches.lora import fuse_adapters
from tunesmith.registry import registry
from tunesmith.runs.guarding import build_guard
from tunesmith.runs.handed import adopt
from tunesmith.runs.material import Material
from tunesmith.runs.plan import DTYPES, RunPlan
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


def assemble(
    plan: RunPlan,
    material: Material,
    mesh: Mesh,
    *,
    saved: Saved | None = None,
    callbacks: Sequence[object] = (),
    stop: StopFlag | None = None,
    model: PreTrainedModel | None = None,
) -> Assembled:
    """The run that the plan describes, resumed from ``saved`` where that is given.

    ``model`` replaces what would be loaded. The plan's patches must be applied.
    """
    objective = build_objective()
    from_base = model is None
    if model is None:
        model = _load(plan, material, mesh, saved)
    else:
        adopt(model, plan, mesh.device)
        if saved is not None and plan.config.adapters.kind is None:
            model.load_state_dict(_load(plan, material, mesh, saved).state_dict())
    adapter = _make_trainable(plan, material, model)
    fuse_adapters(model, ADAPTER_NAME)
    apply(model, mesh, plan.treatment)
    policy = _policy(plan, model)
    files = model_files(policy, material, adapter)
    scale: Scale = Unscaled() if plan.compute_dtype.value != "float16" else LossScale(mesh.device)
    optimizer = build_optimizer(
        build_groups(policy.model, plan.config.optim),
        plan.config.optim,
        mesh.device,
        seed=plan.config.batch.seed,
    )
    stream = training_stream(material.train, material.windows, plan.train_order, mesh)
    output_dir = Path(plan.config.checkpoint.output_dir)
    guard = build_guard(
        plan.config.guard,
        output_dir,
        has_scale=isinstance(scale, LossScale),
        rows_of=stream.rows,
    )
    report = Reporter(mesh, stop, guard)
    run = Run(
        policy=policy,
        objective=objective,
        optimizer=optimizer,
        schedule=build_schedule(plan.config.optim, plan.steps.value, plan.warmup_steps.value),
        stream=stream,
        held_out=_held_out(plan, material, mesh),
        forward_backward=Backward(
            policy,
            objective,
            mesh.device,
            plan.config.batch.seed,
            scale=scale,
            look_up=report.look_up,
        ),
        shard=lambda batch: batch,
        mesh=mesh,
        max_norm=plan.config.optim.max_grad_norm,
        cadence=plan.cadence,
        checkpoints=Saves(
            CheckpointStore(
                output_dir=output_dir,
                files=files,
                optimizer=None if plan.config.checkpoint.weights_only else optimizer,
                identity=plan.identity,
                extra=scale.to_json,
                keep=plan.config.checkpoint.keep,
            ),
            in_background=plan.config.checkpoint.in_background,
        ),
        report=report,
        latch=Latch(mesh, holds=not guard.skips),
        seed=plan.config.batch.seed,
        device=mesh.device,
        events=Events([*callbacks, *_accountants(plan, stream)]),
        scale=scale,
    )
    state = TrainState()
    if saved is not None:
        state = put_back(run, files, saved, with_weights=adapter is not None)
    return Assembled(run, state, files, adapter, from_base)


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


def build_objective() -> Objective:
    """The objective of the run: supervised fine-tuning is the one that there is."""
    made = cast(type[Objective], registry("objectives").load("sft"))
    return made()


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


def _held_out(plan: RunPlan, material: Material, mesh: Mesh) -> MapStream | None:
    if material.held_out is None:
        return None
    return MapStream(material.held_out, plan.held_out_order, mesh)
