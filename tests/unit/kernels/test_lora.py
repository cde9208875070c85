"""The operator against plain autograd in float64, with and without bias and dropout."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tunesmith.kernels.lora import lora_linear

N, I, O, R, S = 7, 6, 5, 3, 0.7  # noqa: E741 - the dimensions' own letters


def inputs():
    draw = torch.Generator().manual_seed(1)
    shapes = ((N, I), (O, I), (O,), (R, I), (O, R))
    x, weight, bias, a, b = (torch.randn(s, generator=draw, dtype=torch.float64) for s in shapes)
    return [t.requires_grad_() for t in (x, a, b)], weight, bias


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("keep", [None, torch.tensor([2.0, 0, 2, 2, 0, 2], dtype=torch.float64)])
def test_output_and_gradients_are_the_formulas(with_bias, keep):
    (x, a, b), weight, bias = inputs()
    bias = bias if with_bias else None
    dropped = None if keep is None else x * keep
    got = lora_linear(x, weight, bias, (a, b, S), dropped)
    source = x if keep is None else x * keep
    want = F.linear(x, weight, bias) + S * (source @ a.T) @ b.T
    torch.testing.assert_close(got, want)
    mix = torch.randn(N, O, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad((got * mix).sum(), (x, a, b)),
        torch.autograd.grad((want * mix).sum(), (x, a, b)),
    )


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_the_operator_is_registered_as_torch_wants_it():
    (x, a, b), weight, bias = inputs()
    for dropped in (None, (x.detach() * 2).requires_grad_()):
        arguments = (x, dropped, weight, bias, a, b, S)
        torch.library.opcheck(torch.ops.tunesmith.lora_linear.default, arguments)
