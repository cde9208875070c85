from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.unit.engine.parts import (
    Reports,
    Rows,
    build_run,
    make_rows,
    order,
    tiny_llama,
    weights_of,
)
from tunesmith.checkpoint.state import TrainState
from tunesmith.data.samples import TokenSample
from tunesmith.engine.loop import fit
from tunesmith.engine.step import train_step
from tunesmith.errors import ExitCode, RunError


def by_hand(run, rows: Rows, *, rate: float, decay: float, max_norm: float):
    """Plain transformers and torch, document by document; nothing of ours but the order of rows."""
    model = tiny_llama()
    decayed = [p for name, p in model.named_parameters() if "norm" not in name]
    others = [p for name, p in model.named_parameters() if "norm" in name]
    groups = [{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate)
    scheduler_steps = run.stream.steps
    losses, norms = [], []
    for step in range(scheduler_steps):
        documents = [rows[int(r)] for r in run.stream.global_rows(step)]
        total = sum(len(d) - d.runs[0][0] for d in documents)
        summed = torch.zeros(())
        for document in documents:
            ids = torch.from_numpy(document.input_ids.astype(np.int64))[None]
            labels = ids.clone()
            labels[:, : document.runs[0][0]] = -100
            logits = model(input_ids=ids).logits
            summed = summed + F.cross_entropy(
                logits[0, :-1], labels[0, 1:], ignore_index=-100, reduction="sum"
            )
        (summed / total).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)))
        warmup = 2
        if step < warmup:
            factor = step / warmup
        else:
            factor = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (scheduler_steps - warmup)))
        for group in optimizer.param_groups:
            group["lr"] = rate * factor
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(summed.detach()) / total)
    return losses, norms, model


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("accumulation", [1, 4])
def test_run_equals_a_loop_written_by_hand(tmp_path, packed, accumulation):
    rows = make_rows(24)
    reports = Reports()
    run = build_run(
        tmp_path,
        rows=rows,
        settings=order(
            packed=packed, micro_batch=4 // accumulation, accumulation=accumulation, epochs=2.0
        ),
        optim={"max_grad_norm": 0.5},
        callbacks=[reports],
    )
    losses, norms, model = by_hand(run, rows, rate=1e-2, decay=0.1, max_norm=0.5)
    fit(run, TrainState())
    assert min(norms) > 0.5, "the norm must be clipped for the test to mean something"
    assert losses[-1] < losses[0] - 0.1
    np.testing.assert_allclose(reports.losses, losses, rtol=1e-5)
    np.testing.assert_allclose(reports.norms, norms, rtol=1e-4)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(weights_of(run)[name], value, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("settings", [order(micro_batch=1, accumulation=4), order(packed=False)])
def test_cutting_a_step_differently_changes_nothing(tmp_path, settings):
    whole, cut = Reports(), Reports()
    one = order(micro_batch=4, accumulation=1)
    run = build_run(tmp_path, settings=one, callbacks=[whole])
    other = build_run(tmp_path, settings=settings, callbacks=[cut])
    fit(run, TrainState())
    fit(other, TrainState())
    np.testing.assert_allclose(cut.losses, whole.losses, rtol=1e-5)
    np.testing.assert_allclose(cut.norms, whole.norms, rtol=1e-4)


def test_rates_are_set_before_the_update(tmp_path):
    reports = Reports()
    run = build_run(tmp_path, callbacks=[reports])
    before = weights_of(run)
    batches = next(iter(run.stream.from_step(0)))
    report = train_step(run, TrainState(), batches)
    # The first step of a warm-up has rate 0: whoever sets the rate afterwards moves the weights.
    assert report.learning_rate == 0.0
    assert all(torch.equal(before[name], value) for name, value in weights_of(run).items())


def test_gradients_are_forgotten_after_the_update(tmp_path):
    run = build_run(tmp_path)
    train_step(run, TrainState(), next(iter(run.stream.from_step(0))))
    assert all(parameter.grad is None for parameter in run.policy.parameters())


def test_dropout_depends_on_the_micro_batch_alone(tmp_path):
    def losses(disturb: bool) -> list[float]:
        reports = Reports()
        run = build_run(tmp_path, model=tiny_llama(dropout=0.3), callbacks=[reports])
        if disturb:
            torch.manual_seed(12345)
            torch.rand(100)
        fit(run, TrainState())
        return reports.losses

    plain = Reports()
    fit(build_run(tmp_path, callbacks=[plain]), TrainState())
    assert losses(False) == losses(True)
    assert losses(False) != plain.losses


def test_a_step_without_trained_tokens_is_refused(tmp_path):
    empty = TokenSample(np.array([3, 4, 5], dtype=np.int32), (), "rows.jsonl:1")
    run = build_run(tmp_path, rows=Rows([empty]))
    with pytest.raises(RunError, match="nothing is trained in step 1") as caught:
        fit(run, TrainState())
    assert caught.value.exit_code == ExitCode.WRONG_INPUT


def poison(run, *, at_step: int, what: str):
    """Make the loss, or a gradient alone, not finite in one step."""
    inner = run.forward_backward

    def forward_backward(microbatches, totals):
        sums = inner(microbatches, totals)
        if microbatches[0].index[0] == at_step:
            if what == "loss":
                sums.losses["tokens"] = sums.losses["tokens"] * math.nan
            else:
                next(run.policy.parameters()).grad.fill_(math.inf)
        return sums

    return replace(run, forward_backward=forward_backward)


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("name", ["adamw_torch", "adamw_torch_fused"])
def test_a_number_that_is_not_finite_stops_the_run(tmp_path, what, name):
    run = poison(
        build_run(tmp_path, optim={"optimizer": name}, save={"steps": 1}), at_step=3, what=what
    )
    with pytest.raises(RunError, match=f"step 4 went bad: the {what}") as caught:
        fit(run, TrainState())
    assert caught.value.exit_code == ExitCode.NOT_FINITE
    other = "gradient" if what == "loss" else "loss"
    assert other not in caught.value.message
    # What a bad step did is never saved.
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"checkpoint-{n}" for n in (1, 2, 3)]


@pytest.mark.parametrize("name", ["adamw_torch", "adamw_torch_fused"])
def test_the_update_of_a_bad_gradient_is_skipped(tmp_path, name):
    run = poison(build_run(tmp_path, optim={"optimizer": name}), at_step=3, what="gradient")
    state = TrainState(step=3)
    before = weights_of(run)
    report = train_step(run, state, next(iter(run.stream.from_step(3))))
    assert report.learning_rate > 0
    assert report.grad_norm == math.inf
    assert all(torch.equal(before[key], value) for key, value in weights_of(run).items())


def test_the_schedule_moves_the_momentum_too(tmp_path):
    optim = {"schedule": "one_cycle", "optimizer": "adamw_torch"}
    run = build_run(tmp_path, settings=order(epochs=2.0), optim=optim)
    state, seen = TrainState(), []
    for microbatches in run.stream.from_step(0):
        state.advance(train_step(run, state, microbatches))
        seen.append(run.optimizer.inner.param_groups[0]["betas"][0])
    # Torch's OneCycleLR: momentum is lowest where the rate is highest, at the end of the warm-up.
    assert seen[0] == pytest.approx(0.95)
    assert min(seen) == seen[1] == pytest.approx(0.85)
    assert seen[1:] == sorted(seen[1:])
    assert seen[-1] == pytest.approx(0.95)
