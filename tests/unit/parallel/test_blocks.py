"""Recomputed and compiled blocks give the same numbers, and a block is compiled once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.conformance.tiny import batch_of, build, policy_of
from tunesmith.config.adapters import AdaptersSection
from tunesmith.errors import ModelError
from tunesmith.models.adapters import add_adapter
from tunesmith.models.policy import Want, seed_dropout
from tunesmith.parallel.blocks import Treatment, find_blocks, release_blocks, treat_blocks

# The compiler's own look at tensors that are no leaves.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")

TOKENS = 24
PACKINGS = ((9, 4, 11), (20, 4), (3,) * 8, (24,))
"""Batches of one shape whose documents differ in number and length."""


def adapted(treatment, *, dropout=0.4):
    """A model with dropout, which a second forward pass must draw again."""
    model = build("Llama", num_hidden_layers=3)
    section = AdaptersSection(kind="lora", rank=4, target_linear=True, dropout=dropout)
    add_adapter(model, section, 0, base_name="base")
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=draw)
    treat_blocks(model, treatment)
    return model.train()


def step(model, lengths):
    """The sum of log-probs, and the gradients of what trains."""
    batch = batch_of(lengths, seed=len(lengths))
    seed_dropout(0, (3, 1))
    output = policy_of(model)(batch, Want(coefficients_T=batch.targets["weights"]))
    trained = [p for p in model.parameters() if p.requires_grad]
    return output.dot.item(), torch.autograd.grad(output.dot, trained)


@pytest.fixture
def dynamo():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield torch._dynamo.utils.counters
    torch._dynamo.reset()


def test_recompute_changes_no_gradient_by_a_bit_and_runs_only_its_blocks_twice():
    results, calls = [], []
    for treatment in (Treatment(), Treatment(n_recomputed=2)):
        model = adapted(treatment)
        count = []
        for layer in model.model.layers:
            layer.mlp.register_forward_pre_hook(lambda *_, count=count: count.append(1))
        results.append(step(model, (9, 4)))
        calls.append(len(count))
    assert calls == [3, 5]
    assert results[0][0] == results[1][0]
    assert all(torch.equal(one, two) for one, two in zip(results[0][1], results[1][1], strict=True))
    assert all(gradient.abs().max() > 0 for gradient in results[0][1])


def test_nothing_is_recomputed_where_no_gradient_is_wanted():
    model = adapted(Treatment(n_recomputed=3))
    batch = batch_of((9, 4))
    with torch.no_grad():
        one = policy_of(model.eval())(batch, Want()).logps_T
    release_blocks(model)
    with torch.no_grad():
        assert torch.equal(one, policy_of(model)(batch, Want()).logps_T)


@pytest.mark.parametrize("n_recomputed", [0, 2])
def test_all_blocks_and_all_packings_share_one_graph_without_a_break(dynamo, n_recomputed):
    plain = adapted(Treatment(), dropout=0.0)
    treated = adapted(Treatment(n_recomputed, TOKENS, "aot_eager"), dropout=0.0)
    for lengths in PACKINGS:
        want, got = step(plain, lengths), step(treated, lengths)
        assert got[0] == pytest.approx(want[0], rel=1e-5)
        torch.testing.assert_close(got[1], want[1], rtol=1e-4, atol=1e-5)
        # The first block's input needs no gradient, so it is a graph of its own.
        assert dynamo["stats"]["unique_graphs"] == 2
    assert not dynamo["graph_break"]


def test_rows_of_another_shape_are_not_compiled(dynamo):
    model = adapted(Treatment(0, TOKENS, "aot_eager"), dropout=0.0)
    want = step(adapted(Treatment(), dropout=0.0), (9, 4))
    assert step(model, (9, 4))[0] == want[0]
    assert not dynamo["stats"]


def test_attention_that_the_operator_lacks_is_left_out_of_the_graph(dynamo):
    """Soft caps: the loop over documents breaks the graph and gives the same."""
    results = []
    for treatment in (Treatment(), Treatment(0, TOKENS, "aot_eager")):
        model = build("Gemma2")
        treat_blocks(model, treatment)
        results.append([step(model.train(), lengths) for lengths in PACKINGS[:2]])
    for want, got in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    assert dynamo["graph_break"]


def test_blocks_are_released_and_names_stay():
    plain, treated = adapted(Treatment()), adapted(Treatment(3, TOKENS, "aot_eager"))
    assert [n for n, _ in treated.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert treated.state_dict().keys() == plain.state_dict().keys()
    release_blocks(treated)
    assert all("forward" not in vars(block) for block in find_blocks(treated))


def test_a_model_without_blocks_is_an_error():
    with pytest.raises(ModelError, match="no repeated blocks") as caught:
        treat_blocks(nn.Linear(2, 2), Treatment(n_recomputed=1))
    assert caught.value.where == "gradient_checkpointing"
    treat_blocks(nn.Linear(2, 2), Treatment())
