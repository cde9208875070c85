"""The operator against plain autograd in float64, for one layer and several, bias and dropout."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tunesmith.kernels.lora import Adapted, lora_linears

N, I, R, S = 7, 6, 3, 0.7  # noqa: E741 - the dimensions' own letters
KEEP = torch.tensor([2.0, 0, 2, 2, 0, 2], dtype=torch.float64)


def made(*outputs, biases=False):
    """x and layers of these widths; x and the adapters want a gradient."""
    draw = torch.Generator().manual_seed(1)

    def randn(*shape):
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    x = randn(N, I).requires_grad_()
    layers = [
        Adapted(
            randn(o, I),
            randn(o) if biases else None,
            randn(R, I).requires_grad_(),
            randn(o, R).requires_grad_(),
        )
        for o in outputs
    ]
    return x, layers


def trained(x, layers):
    return [x, *(layer.a for layer in layers), *(layer.b for layer in layers)]


@pytest.mark.parametrize("outputs", [(5,), (5, 2, 4)])
@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("keep", [None, KEEP])
def test_outputs_and_gradients_are_the_formulas(outputs, biases, keep):
    x, layers = made(*outputs, biases=biases)
    got = lora_linears(x, layers, S, None if keep is None else x * keep)
    source = x if keep is None else x * keep
    want = [F.linear(x, m.weight, m.bias) + S * (source @ m.a.T) @ m.b.T for m in layers]
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other)
    draw = torch.Generator().manual_seed(2)
    mixes = [torch.randn(y.shape, generator=draw, dtype=y.dtype) for y in want]
    sums = [sum((y * mix).sum() for y, mix in zip(ys, mixes, strict=True)) for ys in (got, want)]
    gradients = [torch.autograd.grad(total, trained(x, layers)) for total in sums]
    torch.testing.assert_close(*gradients)


def test_an_output_that_nobody_used_counts_as_nothing():
    x, layers = made(5, 2)
    used, _ = lora_linears(x, layers, S)
    x_grad, b_grad = torch.autograd.grad(used.sum(), (x, layers[1].b))
    alone = lora_linears(x, layers[:1], S)[0]
    torch.testing.assert_close(x_grad, torch.autograd.grad(alone.sum(), x)[0])
    assert b_grad.eq(0).all()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_the_operator_is_registered_as_torch_wants_it():
    x, layers = made(5, 2, biases=True)
    for dropped in (None, (x.detach() * 2).requires_grad_()):
        arguments = (
            x,
            dropped,
            [layer.weight for layer in layers],
            [layer.bias for layer in layers],
            torch.cat([layer.a.detach() for layer in layers]).requires_grad_(),
            [layer.b for layer in layers],
            S,
        )
        torch.library.opcheck(torch.ops.tunesmith.lora_linears.default, arguments)
