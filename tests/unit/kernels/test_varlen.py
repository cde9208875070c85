"""The operator is the reference: outputs, gradients, schema."""

from __future__ import annotations

import pytest
import torch

from tunesmith.kernels.documents import Scoring, by_document
from tunesmith.kernels.varlen import attend_packed, extent_of

LENGTHS = (5, 1, 9, 3)
T = sum(LENGTHS)


def inputs(dtype=torch.float64, kv_heads=2):
    draw = torch.Generator().manual_seed(1)
    shapes = [(T, 4, 8), (T, kv_heads, 8), (T, kv_heads, 8)]
    return [torch.randn(s, generator=draw, dtype=dtype).requires_grad_() for s in shapes]


def bounds(filled_to=None):
    edges = [0, *torch.tensor(LENGTHS).cumsum(0).tolist()]
    edges += [T] * ((filled_to or len(edges)) - len(edges))
    return torch.tensor(edges, dtype=torch.int32)


@pytest.mark.parametrize("window", [None, 1, 3, 64])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_outputs_and_gradients_are_the_references(window, kv_heads):
    q, k, v = inputs(kv_heads=kv_heads)
    extent = extent_of(len(LENGTHS), max(LENGTHS))
    got = attend_packed(q, k, v, bounds(T + 1), extent, scaling=0.3, window=window)
    rows = (t.transpose(0, 1)[None] for t in (q, k, v))
    want = by_document(*rows, bounds(), Scoring(0.3, window=window))[0].transpose(0, 1)
    torch.testing.assert_close(got, want, rtol=0, atol=0)
    mix = torch.randn(got.shape, generator=torch.Generator().manual_seed(2), dtype=got.dtype)
    torch.testing.assert_close(
        torch.autograd.grad((got * mix).sum(), (q, k, v)),
        torch.autograd.grad((want * mix).sum(), (q, k, v)),
        rtol=1e-12,
        atol=1e-12,
    )


def test_what_stands_behind_the_bounds_is_never_read():
    q, k, v = inputs()
    extent = extent_of(len(LENGTHS), max(LENGTHS))
    one = attend_packed(q, k, v, bounds(), extent, scaling=0.3, window=None)
    filled = bounds(T + 1)
    filled[len(LENGTHS) + 1 :] = -7
    assert torch.equal(one, attend_packed(q, k, v, filled, extent, scaling=0.3, window=None))


def test_the_operator_is_registered_as_torch_wants_it():
    q, k, v = inputs(torch.float32)
    arguments = (q, k, v, bounds(T + 1), extent_of(len(LENGTHS), max(LENGTHS)), 0.3, -1)
    torch.library.opcheck(torch.ops.tunesmith.attend_packed.default, arguments)
