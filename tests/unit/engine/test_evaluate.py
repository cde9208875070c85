from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.unit.engine.parts import CPU, Mesh, build_run, make_rows, order, tiny_llama
from tunesmith.data.stream import MapStream
from tunesmith.engine.evaluate import evaluate
from tunesmith.errors import ExitCode, RunError


def by_hand(model, rows) -> float:
    """A float64 forward a document, all token losses in one mean."""
    model = model.double().eval()
    losses = []
    for row in rows.samples:
        ids = torch.from_numpy(row.input_ids.astype(np.int64))
        logits = model(input_ids=ids[None]).logits[0]
        start = row.runs[0][0]
        losses.append(F.cross_entropy(logits[start - 1 : -1], ids[start:], reduction="none"))
    return float(torch.cat(losses).mean().detach())


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("micro_batch", [1, 3])
def test_loss_is_a_mean_over_tokens(tmp_path, packed, micro_batch):
    rows = make_rows(11, seed=3)
    run = build_run(tmp_path, model=tiny_llama(dropout=0.4), held_out=rows)
    held_out = MapStream(
        rows, order(shuffle=False, packed=packed, micro_batch=micro_batch), Mesh.single(CPU)
    )
    result = evaluate(replace(run, held_out=held_out))
    expected = by_hand(tiny_llama(dropout=0.4), rows)
    assert result["eval_loss"] == pytest.approx(expected, rel=1e-5)
    assert result["perplexity"] == pytest.approx(math.exp(expected), rel=1e-4)


def test_modes_and_gradients_are_left_as_they_were(tmp_path):
    run = build_run(tmp_path, held_out=make_rows(3))
    frozen = run.policy.model.model.layers[0]
    frozen.eval()
    evaluate(run)
    assert run.policy.training
    assert not frozen.training
    assert run.policy.model.model.layers[1].training
    assert all(parameter.grad is None for parameter in run.policy.parameters())


def test_served_weights_are_the_ones_that_are_evaluated(tmp_path):
    from contextlib import contextmanager

    run = build_run(tmp_path, held_out=make_rows(3))
    entered = []

    @contextmanager
    def served():
        entered.append(True)
        yield

    evaluate(replace(run, served_weights=served))
    assert entered == [True]


def test_without_held_out_data_it_says_so(tmp_path):
    with pytest.raises(RunError, match="no held-out data") as caught:
        evaluate(build_run(tmp_path))
    assert caught.value.exit_code == ExitCode.WRONG_INPUT


def test_a_loss_that_is_not_finite_is_refused(tmp_path):
    run = build_run(tmp_path, held_out=make_rows(3))
    with torch.no_grad():
        run.policy.model.lm_head.weight[5] = math.nan
    with pytest.raises(RunError, match="held-out loss is nan") as caught:
        evaluate(run)
    assert caught.value.exit_code == ExitCode.NOT_FINITE
