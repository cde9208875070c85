"""Clipping: torch's own semantics, in float32, without waiting for the device."""

from __future__ import annotations

import math

import pytest
import torch

from tunesmith.dist.mesh import Mesh
from tunesmith.optim.clip import clip

MESH = Mesh.single("cpu")


def parameters(dtype=torch.float32, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = []
    for shape in ((7, 5), (5,), (), (3, 2, 2)):
        parameter = torch.nn.Parameter(torch.zeros(shape, dtype=dtype))
        parameter.grad = (scale * torch.randn(shape, generator=generator)).to(dtype)
        made.append(parameter)
    return made


def exact_norm(made):
    return math.sqrt(sum(float(p.grad.double().square().sum()) for p in made))


@pytest.mark.parametrize(("max_norm", "scale"), [(1.0, 1.0), (1.0, 1e-3), (100.0, 1.0), (0.5, 1e4)])
def test_equals_torch(max_norm, scale):
    ours, theirs = parameters(scale=scale), parameters(scale=scale)
    norm = clip(ours, MESH, max_norm)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
    assert torch.equal(norm.value, expected)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine.grad, other.grad)
    assert exact_norm(ours) <= max_norm * (1 + 1e-6)
    assert not norm.is_bad


@pytest.mark.parametrize("scale", [1e-3, 50.0])
def test_folded_clipping_leaves_the_gradients_to_the_optimizer(scale):
    folded, clipped = parameters(scale=scale), parameters(scale=scale)
    norm = clip(folded, MESH, 1.0, folded=True)
    assert torch.equal(norm.value, clip(clipped, MESH, 1.0).value)
    assert exact_norm(folded) == pytest.approx(float(norm.value))
    for mine, other in zip(folded, clipped, strict=True):
        torch.testing.assert_close(mine.grad * norm.scale, other.grad)
    assert clip(folded, MESH, 0.0, folded=True).scale is None


def test_zero_measures_and_leaves_alone():
    ours, before = parameters(scale=50), parameters(scale=50)
    norm = clip(ours, MESH, 0.0)
    assert float(norm.value) == pytest.approx(exact_norm(before))
    for mine, other in zip(ours, before, strict=True):
        assert torch.equal(mine.grad, other.grad)


def test_bf16_gradients_are_measured_in_float32():
    made = [torch.nn.Parameter(torch.zeros(4096, dtype=torch.bfloat16)) for _ in range(3)]
    for parameter in made:
        parameter.grad = torch.full((4096,), 1.0078125, dtype=torch.bfloat16)
    norm = clip(made, MESH, 0.0)
    assert norm.value.dtype == torch.float32
    # A bf16 result would be off by up to 4e-3.
    assert float(norm.value) == pytest.approx(exact_norm(made), rel=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_number_is_flagged(value):
    made = parameters()
    made[1].grad[2] = value
    norm = clip(made, MESH, 1.0)
    assert norm.is_bad.dtype == torch.bool
    assert norm.is_bad.shape == ()
    assert norm.is_bad


def test_a_sum_of_squares_beyond_float32_is_flagged():
    made = parameters(scale=1e30)
    assert clip(made, MESH, 1.0).is_bad


def test_parameters_without_gradients_do_not_count():
    made = parameters()
    norm = clip([*made, torch.nn.Parameter(torch.ones(3))], MESH, 0.0)
    assert float(norm.value) == pytest.approx(exact_norm(made))
    empty = clip([torch.nn.Parameter(torch.ones(3))], MESH, 1.0)
    assert float(empty.value) == 0
    assert not empty.is_bad


def test_nothing_waits_for_the_device():
    # A meta tensor has no values: whatever asked for one would raise.
    made = [torch.nn.Parameter(torch.zeros(3, device="meta"))]
    made[0].grad = torch.zeros(3, device="meta")
    norm = clip(made, Mesh.single("meta"), 1.0)
    assert norm.value.device.type == norm.is_bad.device.type == "meta"
