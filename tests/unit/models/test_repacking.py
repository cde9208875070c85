from __future__ import annotations

import bitsandbytes
import pytest
import torch
from torch import nn

from tunesmith.models.repacking import FLAG, keep_values


def quantised(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layer = bitsandbytes.nn.Linear4bit(
        64, 64, bias=False, quant_type="nf4", compress_statistics=True, compute_dtype=torch.float32
    )
    return nn.Sequential(layer).to("cpu").eval()


def test_a_forward_in_evaluation_mode_changes_nothing():
    model = quantised()
    keep_values(model)
    before = model[0].weight.data.clone()
    x = torch.randn(5, 64)
    first = model(x)
    weight = bitsandbytes.functional.dequantize_4bit(
        model[0].weight.data, model[0].weight.quant_state
    )
    assert weight.dtype == torch.float32
    assert torch.equal(model[0].weight.data, before)
    torch.testing.assert_close(first, x @ weight.T, rtol=0, atol=1e-5)
    assert torch.equal(model.train()(x.requires_grad_()), model.eval()(x.detach()))


def test_the_fix_is_still_needed():
    # When this fails, bitsandbytes has no such flag any more: look at what it does now.
    if not getattr(quantised()[0], FLAG):
        pytest.skip("this CPU has no bf16 units: nothing is repacked here")
    model = quantised()
    before = model[0].weight.data.clone()
    model(torch.randn(5, 64))
    assert not torch.equal(model[0].weight.data, before)
