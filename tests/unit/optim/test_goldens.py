"""Whole small runs of axolotl, stepped again: groups, clipping, schedule and optimizer together."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from tunesmith.config.optim import OptimSection
from tunesmith.dist.mesh import Mesh
from tunesmith.optim.build import build_optimizer
from tunesmith.optim.clip import clip
from tunesmith.optim.groups import build_groups
from tunesmith.optim.optimizer import set_rates
from tunesmith.optim.schedules import build_schedule, count_warmup

RECORDS = [
    "opt_adamw_torch_fused",
    "opt_paged_adamw_8bit",
    "sched_linear_default_warmup",
    "sched_one_cycle",
    "sched_polynomial",
    "sched_rex",
]


@pytest.fixture(scope="module")
def goldens(reference):
    lines = (reference / "goldens" / "loss.jsonl").read_text().splitlines()
    return {record["id"]: record for record in map(json.loads, lines)}


@pytest.fixture(scope="module")
def expand(reference):
    spec = importlib.util.spec_from_file_location("expand", reference / "goldens" / "expand.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.expand


@pytest.mark.parametrize("name", RECORDS)
def test_losses_and_norms_are_those_of_axolotl(reference, goldens, expand, name):
    record = goldens[f"loss/{name}"]
    config = record["config"]
    model = AutoModelForCausalLM.from_pretrained(
        reference / "goldens" / "loss" / "model", dtype=torch.float32
    )
    section = OptimSection(
        learning_rate=config["learning_rate"],
        optimizer=config["optimizer"],
        weight_decay=config["weight_decay"],
        schedule=config["lr_scheduler"],
        warmup_steps=config.get("warmup_steps"),
    )
    steps = config["max_steps"]
    optimizer = build_optimizer(build_groups(model, section), section, "cpu")
    schedule = build_schedule(section, steps, count_warmup(section, steps))
    losses = []
    assert len(record["micro_batches"]) == steps  # no accumulation in these
    for step, (batch, logged) in enumerate(
        zip(record["micro_batches"], record["log"], strict=True)
    ):
        inputs = {key: torch.tensor(rows) for key, rows in expand(batch["inputs"]).items()}
        loss = model(**inputs).loss
        loss.backward()
        norm = clip(model.parameters(), Mesh.single("cpu"), 1.0)
        set_rates(optimizer, schedule, step)
        optimizer.step(norm.is_bad)
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        assert losses[-1] == pytest.approx(batch["returned_loss"], abs=1e-5)
        assert float(norm.value) == pytest.approx(logged["grad_norm"], abs=1e-5)
        assert optimizer.rate == pytest.approx(logged["learning_rate"])
    # Without an update the losses would differ by their rows alone.
    untrained = AutoModelForCausalLM.from_pretrained(
        reference / "goldens" / "loss" / "model", dtype=torch.float32
    )
    with torch.no_grad():
        assert abs(losses[-1] - float(untrained(**inputs).loss)) > 0.1
