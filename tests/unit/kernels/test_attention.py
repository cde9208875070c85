from __future__ import annotations

import itertools
import math

import pytest
import torch

from tunesmith.kernels.attention import (
    Attention,
    masked_attention,
    pick_attention,
    varlen_attention,
)
from tunesmith.kernels.documents import Scoring
from tunesmith.kernels.varlen import extent_of

HEADS, KV_HEADS, DIM = 4, 2, 8
LENGTHS = (5, 1, 9, 3)
EXTENT = extent_of(len(LENGTHS), max(LENGTHS))
SINKS = torch.linspace(-1.0, 2.0, HEADS, dtype=torch.float64)
SCORINGS = {
    "plain": Scoring(scaling=0.4),
    "window": Scoring(scaling=0.4, window=3),
    "window of one": Scoring(scaling=0.4, window=1),
    "softcap": Scoring(scaling=0.4, softcap=0.5),
    "softcap, window": Scoring(scaling=0.4, softcap=0.5, window=3),
    "sinks": Scoring(scaling=0.4, sinks=SINKS),
    "sinks, window": Scoring(scaling=0.4, sinks=SINKS, window=2),
}
scorings = pytest.mark.parametrize("scoring", SCORINGS.values(), ids=SCORINGS.keys())


def packed(dtype=torch.float64, seed=3):
    draw = torch.Generator().manual_seed(seed)
    total = sum(LENGTHS)
    shapes = [(1, heads, total, DIM) for heads in (HEADS, KV_HEADS, KV_HEADS)]
    tensors = [torch.randn(s, generator=draw, dtype=torch.float64).to(dtype) for s in shapes]
    return [t.requires_grad_() for t in tensors]


def bounds():
    return torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0).tolist()], dtype=torch.int32)


def by_hand(q, k, v, scoring):
    """Query by query, key by key, in float64 Python arithmetic on autograd scalars."""
    out = torch.zeros_like(q)
    edges = bounds().tolist()
    for start, end in itertools.pairwise(edges):
        for head in range(HEADS):
            other = head * KV_HEADS // HEADS
            for i in range(start, end):
                first = start if scoring.window is None else max(start, i - scoring.window + 1)
                scores = k[0, other, first : i + 1] @ q[0, head, i] * scoring.scaling
                if scoring.softcap is not None:
                    scores = scoring.softcap * torch.tanh(scores / scoring.softcap)
                parts = torch.exp(scores)
                whole = parts.sum()
                if scoring.sinks is not None:
                    whole = whole + math.exp(scoring.sinks[head])
                out[0, head, i] = (parts / whole) @ v[0, other, first : i + 1]
    return out


@scorings
def test_output_and_gradients_are_those_of_the_definition(scoring):
    q, k, v = packed()
    out = varlen_attention(q, k, v, bounds(), EXTENT, scoring=scoring)
    expected = by_hand(q, k, v, scoring)
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=1e-12)
    mix = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    got = torch.autograd.grad((out * mix).sum(), (q, k, v))
    want = torch.autograd.grad((expected * mix).sum(), (q, k, v))
    torch.testing.assert_close(got, want, atol=1e-12, rtol=1e-12)


@scorings
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_packed_document_is_bit_equal_to_the_document_alone(scoring, dtype):
    q, k, v = packed(dtype)
    out = varlen_attention(q, k, v, bounds(), EXTENT, scoring=scoring)
    edges = bounds().tolist()
    for start, end in itertools.pairwise(edges):
        alone = varlen_attention(
            *(t[:, :, start:end].detach().clone() for t in (q, k, v)),
            torch.tensor([0, end - start], dtype=torch.int32),
            extent_of(1, end - start),
            scoring=scoring,
        )
        assert torch.equal(out[:, :, start:end], alone)


@scorings
def test_without_a_mask_every_row_is_one_document(scoring):
    q, k, v = packed()
    whole = torch.tensor([0, q.shape[2]], dtype=torch.int32)
    expected = varlen_attention(q, k, v, whole, extent_of(1, q.shape[2]), scoring=scoring)
    torch.testing.assert_close(masked_attention(q, k, v, None, scoring=scoring), expected)


@scorings
def test_the_last_query_of_a_cache_stands_at_the_last_key(scoring):
    q, k, v = packed()
    everything = masked_attention(q, k, v, None, scoring=scoring)
    last = masked_attention(q[:, :, -2:], k, v, None, scoring=scoring)
    torch.testing.assert_close(last, everything[:, :, -2:])


@scorings
@pytest.mark.parametrize("additive", [True, False])
def test_a_given_mask_rules(scoring, additive):
    """Left padding: the masked keys change nothing."""
    q, k, v = packed()
    n = q.shape[2]
    now, key = torch.arange(n)[:, None], torch.arange(n)
    seen = (key <= now) & (key >= 4)
    if scoring.window is not None:
        seen &= key > now - scoring.window
    seen[:4, :4] |= torch.eye(4, dtype=torch.bool)
    mask = torch.zeros(n, n, dtype=q.dtype).masked_fill(~seen, -1e30) if additive else seen
    out = masked_attention(q, k, v, mask[None, None], scoring=scoring)
    alone = masked_attention(*(t[:, :, 4:] for t in (q, k, v)), None, scoring=scoring)
    torch.testing.assert_close(out[:, :, 4:], alone)


def test_dropout_drops_and_is_seeded():
    q, k, v = packed()
    for scoring in (Scoring(0.4, dropout=0.5), Scoring(0.4, dropout=0.5, softcap=1.0)):
        outputs = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            outputs.append(varlen_attention(q, k, v, bounds(), EXTENT, scoring=scoring))
        assert torch.equal(outputs[0], outputs[1])
        assert not torch.equal(outputs[0], outputs[2])


def test_the_choice_is_made_by_name_with_a_reason():
    plain = Scoring(scaling=1.0)
    assert pick_attention("cpu", torch.bfloat16, 64, scoring=plain).way is Attention.SDPA
    # A device is named without being touched: float32 and odd head sizes never reach the kernel.
    slow = pick_attention("cuda", torch.float32, 64, scoring=plain)
    assert slow.way is Attention.SDPA
    assert "float32" in slow.reason
    assert "head size 300" in pick_attention("cuda", torch.bfloat16, 300, scoring=plain).reason
    capped = pick_attention("cuda", torch.bfloat16, 64, scoring=Scoring(1.0, softcap=30.0))
    assert capped.way is Attention.MATH


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("window", [None, 1, 3, 64])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("value_dim", [64, 32])
def test_flash_is_the_reference_forward_and_backward(window, heads, value_dim):
    lengths = (37, 1, 130, 64)
    draw = torch.Generator().manual_seed(3)
    sizes = [(heads[0], 64), (heads[1], 64), (heads[1], value_dim)]
    exact = [
        torch.randn(1, h, sum(lengths), d, generator=draw).cuda().bfloat16().double()
        for h, d in sizes
    ]
    edges = torch.tensor([0, 37, 38, 168, 232], dtype=torch.int32, device="cuda")
    scoring = Scoring(scaling=0.2, window=window)
    half = [t.bfloat16().requires_grad_() for t in exact]
    choice = pick_attention("cuda", torch.bfloat16, 64, scoring=scoring, value_dim=value_dim)
    assert choice.way is Attention.FLASH
    exact = [t.requires_grad_() for t in exact]
    out = varlen_attention(*half, edges, extent_of(len(lengths), max(lengths)), scoring=scoring)
    expected = varlen_attention(
        *exact, edges, extent_of(len(lengths), max(lengths)), scoring=scoring
    )
    assert out.shape == expected.shape
    torch.testing.assert_close(out.double(), expected, atol=2e-2, rtol=2e-2)
    mix = torch.randn(out.shape, generator=draw).cuda()
    got = torch.autograd.grad((out.float() * mix).sum(), half)
    want = torch.autograd.grad((expected * mix).sum(), exact)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one.double(), other, atol=8e-2, rtol=5e-2)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_flash_does_not_wait_for_the_device():
    draw = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(1, 4, 64, 64, generator=draw).cuda().bfloat16() for _ in range(3))
    edges = torch.tensor([0, 40, 64], dtype=torch.int32, device="cuda")
    varlen_attention(q, k, v, edges, 40, scoring=Scoring(0.2))
    try:
        torch.cuda.set_sync_debug_mode("error")
        varlen_attention(q, k, v, edges, 40, scoring=Scoring(0.2))
    finally:
        torch.cuda.set_sync_debug_mode("default")
