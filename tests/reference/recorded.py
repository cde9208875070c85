"""Runs of axolotl as they were recorded, their micro-batches fed to our engine."""

from __future__ import annotations

import math
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from tunesmith.checkpoint.save import CheckpointStore
from tunesmith.checkpoint.saves import Saves
from tunesmith.checkpoint.state import TrainState
from tunesmith.checkpoint.weights import MODEL, ModelFiles
from tunesmith.config.model import ModelSection
from tunesmith.config.read import load
from tunesmith.data.collate import collate
from tunesmith.data.samples import TokenSample
from tunesmith.data.tokens import runs_of_weights
from tunesmith.dist.mesh import Mesh
from tunesmith.engine.cadence import Timeline, build_cadence
from tunesmith.engine.latch import Latch
from tunesmith.engine.report import Reporter
from tunesmith.engine.run import Run
from tunesmith.engine.step import Backward, train_step
from tunesmith.models.adapters import add_adapter
from tunesmith.models.facts import read_facts
from tunesmith.models.freeze import train_everything
from tunesmith.models.load import load_model
from tunesmith.models.policy import Policy
from tunesmith.models.source import locate
from tunesmith.objectives.sft import Sft
from tunesmith.optim.build import build_optimizer
from tunesmith.optim.groups import build_groups
from tunesmith.optim.schedules import build_schedule, count_warmup
from tunesmith.patches.patch import applied
from tunesmith.patches.plan import plan_patches

CPU = torch.device("cpu")


def documents(inputs, name):
    """The documents of a recorded micro-batch (its full arrays), without padding.

    A row that was packed says by its positions where a document starts; the last of them is the
    padding where nothing of it trains.
    """
    found = []
    for number, ids in enumerate(inputs["input_ids"]):
        positions = inputs.get("position_ids", [list(range(len(ids)))] * (number + 1))[number]
        mask = inputs.get("attention_mask", [[1] * len(ids)] * (number + 1))[number]
        labels = inputs["labels"][number]
        end = sum(mask)
        starts = [at for at in range(end) if positions[at] == 0]
        for start, stop in zip(starts, [*starts[1:], end], strict=True):
            trained = np.array([label != -100 for label in labels[start:stop]])
            trained[0] = False  # nothing predicts it
            if trained.any():
                runs = runs_of_weights(trained)
                part = np.asarray(ids[start:stop], dtype=np.int32)
                found.append(TokenSample(part, runs, f"{name}:{number}:{start}"))
    return found


class Recorded:
    """A stream of given micro-batches: a list of lists of documents for each step."""

    def __init__(self, steps) -> None:
        self.micro_batches = steps
        self.steps = len(steps)

    def from_step(self, step):
        for number in range(step, self.steps):
            yield [
                collate(samples, index=(number, turn), capacity=4096)
                for turn, samples in enumerate(self.micro_batches[number])
            ]

    def _samples(self, step):
        return [sample for samples in self.micro_batches[step] for sample in samples]

    def weights(self, step):
        return {"tokens": math.fsum(sample.total_weight for sample in self._samples(step))}

    def rows(self, step):
        return [sample.source for sample in self._samples(step)]

    def n_tokens(self, step):
        return sum(len(sample) for sample in self._samples(step))

    def epoch_at(self, step):
        return step / self.steps

    def policy_updated(self, step, policy):
        pass


@contextmanager
def recorded_run(record, reference, steps, output_dir, held_out=None):
    """A run of our engine as the record's own config describes it, on the recorded model."""
    # The key only adds padding, which no loss sees.
    given = {k: v for k, v in record["config"].items() if k != "pad_to_multiple_of"}
    config = load({**given, "output_dir": str(output_dir)}).config
    base = locate(ModelSection(base=str(reference / "goldens" / "loss" / "model")))
    optim, seed, mesh = config.optim, config.batch.seed, Mesh.single("cpu")
    patches = plan_patches(config.kernels, isolates=True)
    with applied(patches.patches):
        model = load_model(base, torch.float32, None, CPU, patches.attention)
        if config.adapters.kind is None:
            train_everything(model)
        else:
            add_adapter(model, config.adapters, seed, base_name="base")
            fill(model, load_file(reference / "goldens" / record["init"]))
        facts = read_facts(model.config)
        policy = Policy(model, facts, layout=patches.layout).train()
        stream = Recorded(steps)
        optimizer = build_optimizer(build_groups(model, optim), optim, CPU, seed=seed)
        files = ModelFiles(model.state_dict().items, MODEL, lambda folder: None)
        yield Run(
            policy=policy,
            objective=Sft(),
            optimizer=optimizer,
            schedule=build_schedule(optim, stream.steps, count_warmup(optim, stream.steps)),
            stream=stream,
            held_out=Recorded(held_out) if held_out else None,
            forward_backward=Backward(policy, Sft(), CPU, seed),
            shard=lambda batch: batch,
            mesh=mesh,
            max_norm=optim.max_grad_norm,
            cadence=build_cadence(
                config.evaluation,
                config.checkpoint,
                Timeline(stream.steps, stream.epoch_at),
                log_every=1,
                has_held_out=held_out is not None,
            ),
            checkpoints=Saves(
                CheckpointStore(Path(output_dir), files, optimizer), in_background=False
            ),
            report=Reporter(mesh),
            latch=Latch(mesh),
            seed=seed,
            device=CPU,
        )


@torch.no_grad()
def fill(model, values):
    """Put the recorded start of an adapter in, name by name."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    given = {name.removeprefix("base_model.model."): value for name, value in values.items()}
    if given.keys() != trained.keys():
        raise KeyError(sorted(given.keys() ^ trained.keys())[:4])
    for name, parameter in trained.items():
        parameter.copy_(given[name])


def step_through(run):
    """The report of each step, and the run itself left trained."""
    state = TrainState()
    for micro_batches in run.stream.from_step(0):
        report = train_step(run, state, micro_batches)
        state.advance(report)
        yield report
