"""The attention function under autocast."""

from __future__ import annotations

import torch

from tunesmith.patches.attention import attend


def test_under_autocast_all_three_take_its_dtype():
    """Rotary embeddings of fp32 weights give fp32 queries beside bf16 values."""
    module = torch.nn.Module()
    query, key = torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8)
    value = torch.randn(1, 2, 5, 8).bfloat16()
    bounds = {"cu_seq_lens_q": torch.tensor([0, 2, 5], dtype=torch.int32), "max_length_q": 3}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, _ = attend(module, query, key, value, None, **bounds)
    assert out.dtype == torch.bfloat16
    expected, _ = attend(module, query.bfloat16(), key.bfloat16(), value, None, **bounds)
    assert torch.equal(out, expected)
