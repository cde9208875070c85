"""The AdamW kernel is its reference: interpreted on a CPU, compiled on a GPU."""

from __future__ import annotations

import pytest
import torch

from tests.unit.kernels.interpreted import DEVICE, triton_runs
from tunesmith.optim import adamw_bf16
from tunesmith.optim.adamw_bf16 import AdamWBf16

pytestmark = triton_runs


def trained(dtype, n_steps, *, on_device, scalars=False, shape=(37, 41)):
    """Weight and moments after some steps, by the kernel or by the reference."""
    draw = torch.Generator().manual_seed(2)
    parameter = torch.nn.Parameter(torch.randn(shape, generator=draw).to(dtype).to(DEVICE))
    group = {"params": [parameter], "names": ["layers.0.weight"]}
    optimizer = AdamWBf16([group], lr=0.01, weight_decay=0.1, betas=(0.9, 0.99), seed=5)
    if on_device:
        optimizer.on_device = lambda _parameter: True
    else:
        optimizer.on_device = lambda _parameter: False
    for _ in range(n_steps):
        parameter.grad = torch.randn(shape, generator=draw).to(dtype).to(DEVICE)
        if scalars:
            optimizer.grad_scale = torch.tensor(3.0, device=DEVICE)
            optimizer.found_inf = torch.tensor(0.0, device=DEVICE)
        optimizer.step()
    state = optimizer.state[parameter]
    return parameter.detach(), state["exp_avg"], state["exp_avg_sq"]


@pytest.mark.parametrize("scalars", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernel_is_the_reference(dtype, scalars):
    got = trained(dtype, 3, on_device=True, scalars=scalars)
    want = trained(dtype, 3, on_device=False, scalars=scalars)
    for one, other in zip(got, want, strict=True):
        assert one.dtype == other.dtype == dtype
        # The same random bits: but for the last bit of float32 sums, the same bf16 numbers.
        assert (one == other).float().mean() > 0.99 or dtype == torch.float32
        torch.testing.assert_close(
            one.float(), other.float(), rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-6
        )


def test_numbers_are_rounded_by_the_references_bits():
    """With a rate of 0 and no decay a bf16 weight stays, bit by bit, and moments are rounded."""
    words = adamw_bf16.random_words(8, torch.device("cpu"), (5, 1, "layers.0.weight"))
    assert len(set(words.tolist())) == 8
    got = trained(torch.bfloat16, 1, on_device=True, shape=(3000,))
    want = trained(torch.bfloat16, 1, on_device=False, shape=(3000,))
    assert all((one == other).float().mean() > 0.999 for one, other in zip(got, want, strict=True))


def test_a_bad_step_is_left_out_on_the_device():
    from tunesmith.kernels.adamw import Factors, update

    tensors = [torch.ones(5, dtype=torch.bfloat16, device=DEVICE) for _ in range(4)]
    scalars = (torch.ones((), device=DEVICE), torch.ones((), device=DEVICE))
    update(tuple(tensors), Factors(0.99, 0.1, 0.01, 1e-8, 0.5, 0.1, 1.0), 7, scalars)
    assert all(tensor.eq(1).all() for tensor in tensors)


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_what_is_not_finite_stays_so():
    parameter = torch.nn.Parameter(torch.ones(5, dtype=torch.bfloat16, device=DEVICE))
    optimizer = AdamWBf16([{"params": [parameter], "names": ["w"]}], lr=0.1)
    optimizer.on_device = lambda _parameter: True
    parameter.grad = torch.tensor([1.0, float("nan"), float("inf"), 0.0, -1.0]).to(parameter)
    optimizer.step()
    assert parameter.isfinite().tolist() == [True, False, False, True, True]
