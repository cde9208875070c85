from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.conformance.tiny import batch_of, build, policy_of
from tunesmith.config.adapters import AdaptersSection
from tunesmith.config.memory import MemorySection
from tunesmith.dist.mesh import AxisSizes, Mesh
from tunesmith.errors import ModelError, RunError
from tunesmith.models.adapters import add_adapter
from tunesmith.models.policy import Want, seed_dropout
from tunesmith.parallel.activations import recompute_blocks
from tunesmith.parallel.apply import apply


def adapted(*, recompute):
    """A model with dropout, which a second forward pass must draw again."""
    model = build("Llama")
    section = AdaptersSection(kind="lora", rank=4, target_linear=True, dropout=0.4)
    add_adapter(model, section, 0, base_name="base")
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=draw)
    apply(model, Mesh.single("cpu"), MemorySection(gradient_checkpointing=recompute))
    return model.train()


def test_recompute_changes_no_gradient_by_a_bit_and_runs_the_blocks_twice():
    batch = batch_of((9, 4))
    results, calls = [], []
    for recompute in (False, True):
        model = adapted(recompute=recompute)
        names = [n for n, _ in model.named_parameters()]
        count = []
        layer = model.model.layers[0].mlp
        layer.register_forward_pre_hook(lambda *_, count=count: count.append(1))
        seed_dropout(0, (3, 1))
        output = policy_of(model)(batch, Want(coefficients_T=batch.targets["weights"]))
        output.dot.backward()
        results.append([p.grad for p in model.parameters() if p.requires_grad])
        calls.append(len(count))
        assert [n for n, _ in model.named_parameters()] == names
    assert calls == [1, 2]
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))
    assert all(gradient.abs().max() > 0 for gradient in results[0])


def test_a_model_that_cannot_recompute_is_an_error():
    model = build("Llama")
    type(model).supports_gradient_checkpointing = False
    try:
        with pytest.raises(ModelError, match="cannot recompute") as caught:
            recompute_blocks(model)
    finally:
        type(model).supports_gradient_checkpointing = True
    assert caught.value.where == "gradient_checkpointing"


def test_more_than_one_device_is_refused():
    mesh = Mesh(device=torch.device("cpu"), sizes=AxisSizes(shard=2))
    with pytest.raises(RunError, match="2 devices"):
        apply(nn.Identity(), mesh, MemorySection())
