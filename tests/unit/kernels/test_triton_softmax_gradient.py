"""The kernel is its reference in float64: interpreted on a CPU, compiled on a GPU."""

from __future__ import annotations

import pytest
import torch

from tests.unit.kernels.interpreted import DEVICE, triton_runs
from tunesmith.kernels.logprobs import Finish

pytestmark = triton_runs

FINISHES = (Finish(), Finish(scale=0.25), Finish(cap=2.0), Finish(scale=3.0, cap=1.5))


def made(n_rows, n_words, *, spread=3.0):
    draw = torch.Generator().manual_seed(n_words)
    logits = spread * torch.randn(n_rows, n_words, generator=draw)
    targets = torch.randint(0, n_words, (n_rows,), generator=draw)
    targets[0] = n_words - 1
    coefficients = torch.randn(n_rows, generator=draw)
    return logits.to(DEVICE), targets.to(DEVICE), coefficients.to(DEVICE)


def by_autograd(logits, targets, coefficients, finish):
    exact = logits.double().requires_grad_()
    logps = torch.log_softmax(finish(exact), dim=-1).gather(1, targets[:, None]).squeeze(1)
    (gradient,) = torch.autograd.grad((coefficients.double() * logps).sum(), exact)
    return logps.detach(), gradient


@pytest.mark.parametrize("finish", FINISHES)
@pytest.mark.parametrize("n_words", [5, 4096, 4097, 9000])
def test_log_probs_and_gradient_are_the_definitions(finish, n_words):
    from tunesmith.kernels.softmax_gradient import logps_and_gradient

    logits, targets, coefficients = made(3, n_words)
    logps, gradient = logps_and_gradient(
        logits, targets, coefficients, scale=finish.scale, cap=finish.cap, dtype=torch.float32
    )
    want_logps, want_gradient = by_autograd(logits, targets, coefficients, finish)
    torch.testing.assert_close(logps.double(), want_logps, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient.double(), want_gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("offset", [-1e4, 1e4])
def test_large_logits_do_not_overflow(offset):
    from tunesmith.kernels.softmax_gradient import logps_and_gradient

    logits, targets, coefficients = made(2, 50)
    logps, gradient = logps_and_gradient(
        logits + offset, targets, coefficients, scale=1.0, cap=None, dtype=torch.bfloat16
    )
    want, _ = by_autograd(logits + offset, targets, coefficients, Finish())
    torch.testing.assert_close(logps.double(), want, rtol=1e-3, atol=1e-3)
    assert gradient.dtype == torch.bfloat16
    assert gradient.isfinite().all()


def test_no_rows_are_no_error():
    from tunesmith.kernels.softmax_gradient import logps_and_gradient

    logits, targets, coefficients = (t[:0] for t in made(2, 50))
    logps, gradient = logps_and_gradient(
        logits, targets, coefficients, scale=1.0, cap=None, dtype=torch.float32
    )
    assert (logps.shape, gradient.shape) == ((0,), (0, 50))
