from __future__ import annotations

import itertools

import pytest
import torch
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from tests.conformance.tiny import batch_of, build, policy_of
from tunesmith.models.policy import Want
from tunesmith.models.router import balance
from tunesmith.objectives.sft import Sft

LENGTHS = (5, 1, 8)


def test_it_is_transformers_loss_of_each_document_times_its_length():
    draw = torch.Generator().manual_seed(0)
    layers = [torch.randn(14, 4, generator=draw).requires_grad_() for _ in range(3)]
    segments = torch.tensor([0, 5, 6, 14], dtype=torch.int32)
    got = balance(layers, segments, top_k=2)
    expected = sum(
        (end - start) * load_balancing_loss_func(tuple(x[start:end] for x in layers), 4, 2)
        for start, end in ((0, 5), (5, 6), (6, 14))
    )
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(
        torch.autograd.grad(got, layers), torch.autograd.grad(expected, layers)
    )


def test_experts_used_alike_balance_at_top_k():
    logits = torch.eye(4).repeat(3, 1) * 1e-4
    segments = torch.tensor([0, 12], dtype=torch.int32)
    torch.testing.assert_close(balance([logits], segments, top_k=1), torch.tensor(12.0))


@pytest.mark.parametrize("layout", ["flat", "rows"])
def test_the_policy_gives_it_where_the_config_asks_for_it(layout):
    batch = batch_of(LENGTHS)
    attention = "tunesmith_varlen" if layout == "flat" else "eager"
    model = build("Mixtral", output_router_logits=True, attention=attention)
    output = policy_of(model, layout)(batch, Want())
    edges = batch.segments.tolist()
    expected = 0.0
    for start, end in itertools.pairwise(edges):
        ids = batch.inputs["input_ids"][None, start:end]
        own = model(input_ids=ids, use_cache=False)
        expected = expected + (end - start) * own.aux_loss
    torch.testing.assert_close(output.auxiliary["router_balance"], expected, atol=1e-4, rtol=1e-4)
    assert output.auxiliary["router_balance"].requires_grad
    metrics = Sft().loss(policy_of(model, layout), batch).metrics
    torch.testing.assert_close(metrics["router_balance"], expected.detach(), atol=1e-4, rtol=1e-4)


def test_a_dense_model_has_no_side_losses():
    assert policy_of(build("Llama"))(batch_of(LENGTHS), Want()).auxiliary == {}
