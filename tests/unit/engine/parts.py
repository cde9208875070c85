"""A whole run on a tiny random Llama, small enough to be built anew in every test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from tunesmith.checkpoint.save import CheckpointStore
from tunesmith.checkpoint.saves import Saves
from tunesmith.checkpoint.state import TrainState
from tunesmith.checkpoint.weights import MODEL, ModelFiles, NamedTensors
from tunesmith.config.checkpoint import CheckpointSection
from tunesmith.config.evaluation import EvaluationSection
from tunesmith.config.optim import OptimSection
from tunesmith.data.samples import TokenSample
from tunesmith.data.stream import MapStream, OrderSettings
from tunesmith.dist.mesh import Mesh
from tunesmith.engine.cadence import Timeline, build_cadence
from tunesmith.engine.events import Events
from tunesmith.engine.guard import Guard
from tunesmith.engine.latch import Latch
from tunesmith.engine.report import Reporter
from tunesmith.engine.run import Run
from tunesmith.engine.scaling import LossScale, Unscaled
from tunesmith.engine.step import Backward
from tunesmith.models.facts import read_facts
from tunesmith.models.policy import Policy
from tunesmith.objectives.sft import Sft
from tunesmith.optim.build import build_optimizer
from tunesmith.optim.groups import build_groups
from tunesmith.optim.schedules import build_schedule

VOCAB = 61
CPU = torch.device("cpu")


def tiny_llama(*, seed: int = 0, dropout: float = 0.0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        attention_dropout=dropout,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config).train()


class Rows:
    """A prepared split in memory."""

    def __init__(self, samples: Sequence[TokenSample]) -> None:
        self.samples = list(samples)
        self.fingerprint = "rows"

    @property
    def lengths(self) -> NDArray[np.int32]:
        return np.array([len(sample) for sample in self.samples], dtype=np.int32)

    @property
    def totals(self) -> Mapping[str, NDArray[np.float64]]:
        return {"tokens": np.array([s.total_weight for s in self.samples], dtype=np.float64)}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, row: int) -> TokenSample:
        return self.samples[row]


def make_rows(n: int, *, seed: int = 0, longest: int = 20) -> Rows:
    """``n`` documents of very different lengths and shares of trained tokens."""
    draw = np.random.default_rng(seed)
    samples = []
    for number in range(n):
        length = int(draw.integers(4, longest + 1))
        start = int(draw.integers(1, length - 1))
        # Squared, so that some ids are far more frequent than others: that can be learned.
        ids = (3 + (VOCAB - 3) * draw.random(length) ** 3).astype(np.int32)
        samples.append(TokenSample(ids, ((start, length, 1.0),), f"rows.jsonl:{number + 1}"))
    return Rows(samples)


def order(**changes: object) -> OrderSettings:
    settings = {"seed": 7, "capacity": 24, "micro_batch": 2, "accumulation": 2, "epochs": 1.0}
    return OrderSettings(**(settings | changes))  # type: ignore[arg-type]


def load_into(model: torch.nn.Module, tensors: NamedTensors) -> None:
    model.load_state_dict(dict(tensors), strict=True)


def build_run(
    output_dir: Path,
    *,
    model: LlamaForCausalLM | None = None,
    rows: Rows | None = None,
    settings: OrderSettings | None = None,
    held_out: Rows | None = None,
    optim: Mapping[str, object] | None = None,
    save: Mapping[str, object] | None = None,
    evaluation: Mapping[str, object] | None = None,
    callbacks: Sequence[object] = (),
    scale: LossScale | None = None,
    guard: Guard | None = None,
    in_background: bool = False,
    log_every: int = 1,
) -> Run:
    mesh = Mesh.single(CPU)
    model = model if model is not None else tiny_llama()
    policy = Policy(model, read_facts(model.config), layout="rows")
    section = OptimSection(
        **(
            {"learning_rate": 1e-2, "optimizer": "adamw_torch", "weight_decay": 0.1}
            | dict(optim or {})
        )
    )
    stream = MapStream(rows if rows is not None else make_rows(24), settings or order(), mesh)
    test = MapStream(held_out, order(shuffle=False), mesh) if held_out is not None else None
    optimizer = build_optimizer(build_groups(policy, section), section, CPU)
    files = ModelFiles(
        tensors=lambda: model.state_dict().items(),
        stem=MODEL,
        write_companions=lambda folder: model.config.save_pretrained(folder),
    )
    objective = Sft()
    scaling = scale if scale is not None else Unscaled()
    report = Reporter(mesh, guard=guard or Guard(has_scale=scale is not None))
    return Run(
        policy=policy,
        objective=objective,
        optimizer=optimizer,
        schedule=build_schedule(section, stream.steps, 2),
        stream=stream,
        held_out=test,
        forward_backward=Backward(
            policy, objective, CPU, seed=7, scale=scaling, look_up=report.look_up
        ),
        shard=lambda batch: batch,
        mesh=mesh,
        max_norm=section.max_grad_norm,
        cadence=build_cadence(
            EvaluationSection(**(evaluation or {})),
            CheckpointSection(**(save or {"strategy": "no"})),
            Timeline(stream.steps, stream.epoch_at),
            log_every=log_every,
            has_held_out=test is not None,
        ),
        checkpoints=Saves(
            CheckpointStore(output_dir, files, optimizer), in_background=in_background
        ),
        report=report,
        latch=Latch(mesh, holds=not report.guard.skips),
        seed=7,
        device=CPU,
        events=Events(callbacks),
        scale=scaling,
        served_weights=nullcontext,
    )


class Reports:
    """A callback that keeps every step's numbers."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.rates: list[float] = []

    def step_finished(self, run: Run, state: TrainState, report: object) -> None:
        self.losses.append(report.loss)  # type: ignore[attr-defined]
        self.norms.append(report.grad_norm)  # type: ignore[attr-defined]
        self.rates.append(report.learning_rate)  # type: ignore[attr-defined]


def weights_of(run: Run) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in run.policy.model.state_dict().items()}
