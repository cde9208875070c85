"""Fused adapters train as peft's own do, in every way that a layer can be used."""

from __future__ import annotations

import pytest
import torch

from tests.conformance.tiny import batch_of, build
from tunesmith.config.adapters import AdaptersSection
from tunesmith.kernels.lora import lora_linears
from tunesmith.models.adapters import ADAPTER, add_adapter, disabled
from tunesmith.models.facts import read_facts
from tunesmith.models.policy import Policy, Want, seed_dropout
from tunesmith.parallel.blocks import Treatment, treat_blocks
from tunesmith.patches import lora
from tunesmith.patches.lora import FusedLoraLinear, fuse_adapters, release_adapters
from tunesmith.patches.patch import applied
from tunesmith.patches.plan import VARLEN


@pytest.fixture(autouse=True)
def varlen():
    with applied([VARLEN]):
        yield


def adapted(family="Llama", dtype=torch.float32, dropout=0.0, **changes):
    model = build(family, dtype=dtype, **changes)
    section = AdaptersSection(kind="lora", rank=4, target_linear=True, dropout=dropout)
    add_adapter(model, section, 0, base_name="base")
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=draw)
    return model.train()


def step(model, compute_dtype=None):
    batch = batch_of((9, 4, 11))
    policy = Policy(model, read_facts(model.config), layout="flat", compute_dtype=compute_dtype)
    seed_dropout(0, (3, 1))
    output = policy(batch, Want(coefficients_T=batch.targets["weights"]))
    trained = [p for p in model.parameters() if p.requires_grad]
    return output.dot.item(), torch.autograd.grad(output.dot, trained)


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Qwen3", "Starcoder2"])
def test_loss_and_gradients_are_pefts_own(family):
    """Qwen2 and Starcoder2 have biases."""
    plain, fused = adapted(family), adapted(family)
    assert fuse_adapters(fused, ADAPTER) >= 12
    want, got = step(plain), step(fused)
    assert got[0] == pytest.approx(want[0], rel=1e-6)
    torch.testing.assert_close(got[1], want[1], rtol=1e-4, atol=1e-5)


def test_sisters_are_computed_together_once(monkeypatch):
    calls = []

    def counted(x, layers, *rest):
        calls.append(len(layers))
        return lora_linears(x, layers, *rest)

    monkeypatch.setattr(lora, "lora_linears", counted)
    model = adapted()
    fuse_adapters(model, ADAPTER)
    step(model)
    assert calls == [3, 1, 2, 1] * 2
    assert all(getattr(layer, "waiting", None) is None for layer in model.modules())


def test_a_sister_that_is_called_with_another_input_computes_its_own():
    plain, fused = adapted(), adapted()
    fuse_adapters(fused, ADAPTER)
    one, other = torch.randn(2, 5, 32)
    results = []
    for model in (plain, fused):
        attention = model.model.layers[0].self_attn
        results.append([attention.q_proj(one), attention.k_proj(other), attention.v_proj(one)])
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)


def test_dropout_draws_as_pefts_own():
    plain, fused = adapted(dropout=0.3), adapted(dropout=0.3)
    fuse_adapters(fused, ADAPTER)
    want, got = step(plain), step(fused)
    assert got[0] == pytest.approx(want[0], rel=1e-6)
    torch.testing.assert_close(got[1], want[1], rtol=1e-4, atol=1e-5)


def test_half_precision_is_as_near_to_float32_as_pefts_own():
    def error(results, exact):
        pairs = zip(results[1], exact[1], strict=True)
        parts = [((one - other).norm() / other.norm()).item() for one, other in pairs]
        return sum(parts) / len(parts)

    half, fused = adapted(dtype=torch.bfloat16), adapted(dtype=torch.bfloat16)
    exact = adapted()
    exact.load_state_dict(half.state_dict())
    fuse_adapters(fused, ADAPTER)
    want = step(exact)
    own, ours = (error(step(m, torch.bfloat16), want) for m in (half, fused))
    assert ours < max(1.2 * own, 1e-3)


def test_outside_of_training_a_layer_is_pefts_own():
    plain, fused = adapted(), adapted()
    fuse_adapters(fused, ADAPTER)
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        assert torch.equal(plain.eval()(ids).logits, fused.eval()(ids).logits)
        with disabled(plain), disabled(fused):
            assert torch.equal(plain.train()(ids).logits, fused.train()(ids).logits)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_all_blocks_share_their_graphs_without_a_break():
    counters = torch._dynamo.utils.counters
    torch._dynamo.reset()
    counters.clear()
    plain = adapted(dtype=torch.bfloat16, num_hidden_layers=4)
    fused = adapted(dtype=torch.bfloat16, num_hidden_layers=4)
    fuse_adapters(fused, ADAPTER)
    treat_blocks(fused, Treatment(0, 24, "aot_eager"))
    for _ in range(3):
        want, got = step(plain, torch.bfloat16), step(fused, torch.bfloat16)
        assert got[0] == pytest.approx(want[0], rel=2e-2)
    # The first block's input needs no gradient, so it is a graph of its own.
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]
    torch._dynamo.reset()


def test_layers_are_released_and_other_kinds_are_left_alone():
    model = adapted()
    names = list(model.state_dict())
    fuse_adapters(model, ADAPTER)
    assert list(model.state_dict()) == names
    release_adapters(model)
    assert not any(type(module) is FusedLoraLinear for module in model.modules())
    assert fuse_adapters(build("Llama"), ADAPTER) == 0
    for parameter in model.parameters():
        parameter.requires_grad = True  # a base that trains needs its own gradient
    assert fuse_adapters(model, ADAPTER) == 0
