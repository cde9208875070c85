from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tunesmith.kernels.logprobs import PLAIN, Finish, chunked_logps, linear_logps

N, D, V = 23, 8, 31
FINISHES = [PLAIN, Finish(scale=0.25), Finish(cap=0.7), Finish(scale=3.0, cap=2.0)]


def inputs(dtype=torch.float64, *, bias=True):
    draw = torch.Generator().manual_seed(7)
    hidden = torch.randn(N, D, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(V, D, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()
    offset = torch.randn(V, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()
    targets = torch.randint(0, V, (N,), generator=draw)
    coefficients = torch.randn(N, generator=draw, dtype=torch.float64)
    return hidden, weight, offset if bias else None, targets, coefficients


def reference(hidden, weight, bias, targets, finish):
    """Every logit at once, in the words of the definition."""
    logits = F.linear(hidden, weight, bias) * finish.scale
    if finish.cap is not None:
        logits = finish.cap * torch.tanh(logits / finish.cap)
    return F.log_softmax(logits, dim=-1).gather(-1, targets[:, None])[:, 0]


def gradients(value, tensors):
    return torch.autograd.grad(value, [t for t in tensors if t is not None])


@pytest.mark.parametrize("finish", FINISHES)
@pytest.mark.parametrize("chunk", [1, 5, 23, 1000])
def test_chunked_logps_and_gradients_are_those_of_all_logits(finish, chunk):
    hidden, weight, bias, targets, coefficients = inputs()
    head = lambda x: F.linear(x, weight, bias)  # noqa: E731
    logps = chunked_logps(hidden, head, targets, finish=finish, chunk=chunk)
    expected = reference(hidden, weight, bias, targets, finish)
    torch.testing.assert_close(logps, expected, atol=1e-12, rtol=1e-12)
    got = gradients((coefficients * logps).sum(), (hidden, weight, bias))
    want = gradients((coefficients * expected).sum(), (hidden, weight, bias))
    torch.testing.assert_close(got, want, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("finish", FINISHES)
@pytest.mark.parametrize("chunk", [1, 5, 23, 1000])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_logps_and_gradients_are_those_of_all_logits(finish, chunk, bias):
    hidden, weight, offset, targets, coefficients = inputs(bias=bias)
    dot, logps = linear_logps(
        hidden, weight, offset, targets, coefficients, finish=finish, chunk=chunk
    )
    expected = reference(hidden, weight, offset, targets, finish)
    torch.testing.assert_close(logps, expected.detach(), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(dot, (coefficients * expected).sum(), atol=1e-11, rtol=1e-12)
    # The engine divides by a global weight, so the incoming gradient is not 1.
    got = gradients(-dot / 37, (hidden, weight, offset))
    want = gradients(-(coefficients * expected).sum() / 37, (hidden, weight, offset))
    torch.testing.assert_close(got, want, atol=1e-12, rtol=1e-12)


def test_the_gradient_passes_torchs_own_check():
    hidden, weight, bias, targets, coefficients = inputs()

    def dot(h, w, b):
        return linear_logps(h, w, b, targets, coefficients, finish=Finish(2.0, 3.0), chunk=4)[0]

    assert torch.autograd.gradcheck(dot, (hidden, weight, bias))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_inputs_are_summed_widely(dtype):
    hidden, weight, bias, targets, coefficients = inputs(dtype)
    dot, logps = linear_logps(hidden, weight, bias, targets, coefficients, chunk=5)
    assert logps.dtype == torch.float32
    expected = reference(hidden.double(), weight.double(), bias.double(), targets, PLAIN)
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 0.05}[dtype]
    torch.testing.assert_close(logps.double(), expected, atol=tolerance, rtol=tolerance)
    got = gradients(dot, (hidden, weight, bias))
    want = gradients((coefficients * expected).sum(), (hidden, weight, bias))
    for one, other in zip(got, want, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.double(), other.double(), atol=10 * tolerance, rtol=0.1)


def test_a_frozen_weight_gets_no_gradient_and_the_hidden_states_do():
    hidden, weight, _, targets, coefficients = inputs()
    weight.requires_grad_(False)
    dot, logps = linear_logps(hidden, weight, None, targets, coefficients)
    dot.backward()
    assert weight.grad is None
    assert hidden.grad is not None
    assert not logps.requires_grad


def test_a_float32_weight_beside_bfloat16_states_keeps_a_float32_gradient():
    hidden, _, _, targets, coefficients = inputs(torch.bfloat16)
    _, weight, _, _, _ = inputs(torch.float32)
    dot, _ = linear_logps(hidden, weight, None, targets, coefficients)
    dot.backward()
    assert hidden.grad.dtype == torch.bfloat16
    assert weight.grad.dtype == torch.float32


def test_no_position_gives_zero_and_zero_gradients():
    hidden, weight, bias, targets, coefficients = inputs()
    dot, logps = linear_logps(hidden[:0], weight, bias, targets[:0], coefficients[:0])
    assert dot.item() == 0
    assert logps.shape == (0,)
    assert not any(g.any() for g in gradients(dot, (hidden, weight, bias)))
    logps = chunked_logps(hidden[:0], lambda x: F.linear(x, weight, bias), targets[:0])
    assert logps.shape == (0,)
    assert not any(g.any() for g in gradients(logps.sum(), (weight, bias)))


def test_without_gradients_nothing_is_prepared_for_them():
    hidden, weight, bias, targets, coefficients = inputs()
    with torch.no_grad():
        dot, logps = linear_logps(hidden, weight, bias, targets, coefficients)
    assert not dot.requires_grad
    torch.testing.assert_close(logps, reference(hidden, weight, bias, targets, PLAIN).detach())


def test_all_logits_never_exist_at_once():
    """The head is asked for at most one chunk, forward and backward."""
    hidden, weight, bias, targets, _ = inputs()
    seen = []

    def head(x):
        seen.append(len(x))
        return F.linear(x, weight, bias)

    chunked_logps(hidden, head, targets, chunk=4).sum().backward()
    assert max(seen) == 4
    assert sum(seen) == 2 * N
