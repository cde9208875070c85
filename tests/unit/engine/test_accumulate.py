"""Sums of bf16 gradients against the same sum in float64."""

from __future__ import annotations

import torch
from torch import nn

from tunesmith.engine.accumulate import WideSum


def _add_up(parameter: nn.Parameter, gradients: list[torch.Tensor], *, wide: bool) -> torch.Tensor:
    total = WideSum([parameter] if wide else [])
    parameter.grad = None
    for gradient in gradients:
        (parameter * gradient).sum().backward()
        total.take()
    total.give()
    assert parameter.grad is not None
    return parameter.grad


def test_many_bf16_gradients_are_summed_as_well_as_one_rounding_allows() -> None:
    torch.manual_seed(0)
    parameter = nn.Parameter(torch.zeros(512, dtype=torch.bfloat16))
    gradients = [torch.randn(512).bfloat16() for _ in range(64)]
    exact = torch.stack([g.double() for g in gradients]).sum(0)
    found = _add_up(parameter, gradients, wide=True)
    assert torch.equal(found, exact.float().bfloat16())
    narrow = _add_up(parameter, gradients, wide=False)
    assert not torch.equal(narrow, exact.float().bfloat16())


def test_fp32_and_frozen_weights_are_left_to_torch() -> None:
    wide = nn.Parameter(torch.ones(3))
    frozen = nn.Parameter(torch.ones(3, dtype=torch.bfloat16), requires_grad=False)
    total = WideSum([wide, frozen])
    for _ in range(2):
        (wide * 2).sum().backward()
        total.take()
    total.give()
    assert torch.equal(wide.grad, torch.full((3,), 4.0))
    assert frozen.grad is None


def test_a_weight_without_gradient_in_some_micro_batches_keeps_the_others() -> None:
    parameter = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    total = WideSum([parameter])
    (parameter * 3).sum().backward()
    total.take()
    total.take()
    total.give()
    assert torch.equal(parameter.grad, torch.full((2,), 3.0, dtype=torch.bfloat16))
