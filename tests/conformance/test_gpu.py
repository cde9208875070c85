"""The same promises on a GPU, in bfloat16, where other kernels run."""

from __future__ import annotations

import pytest
import torch

from tests.conformance.tiny import FLAT, batch_of, build, policy_of
from tunesmith.models.policy import Want

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
LENGTHS = (70, 11, 1, 46)


@pytest.mark.parametrize("family", FLAT)
def test_bfloat16_on_one_axis_is_near_float32_in_rows(family):
    batch = batch_of(LENGTHS).to("cuda")
    weights = batch.targets["weights"]
    half = policy_of(build(family, dtype=torch.bfloat16).cuda())
    exact = policy_of(
        build(family, dtype=torch.bfloat16, attention="eager").float().cuda(), layout="rows"
    )
    with torch.no_grad():
        one = half(batch, Want(coefficients_T=weights))
        two = exact(batch, Want())
    error = (one.logps_T - two.logps_T).abs()
    # An expert may be chosen differently in bfloat16, so the typical error counts.
    assert error[weights != 0].median() < 0.05
    assert (one.dot - (weights * two.logps_T).sum()).abs() < 0.02 * two.logps_T.abs().sum()


@pytest.mark.parametrize("family", FLAT)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_document_never_sees_another_one(family, dtype):
    before, other = batch_of(LENGTHS, seed=1).to("cuda"), batch_of(LENGTHS, seed=2).to("cuda")
    policy = policy_of(build(family, dtype=dtype).cuda())
    ids = before.inputs["input_ids"].clone()
    ids[:70] = other.inputs["input_ids"][:70]
    after = batch_of(LENGTHS, ids=list(torch.split(ids.cpu(), LENGTHS))).to("cuda")
    with torch.no_grad():
        one, two = (policy(batch, Want(logits=True)).logits_TV for batch in (before, after))
    assert not torch.equal(one[:70], two[:70])
    if policy.architecture.n_experts:
        assert (one[70:] - two[70:]).abs().median() < 1e-2
    else:
        assert torch.equal(one[70:], two[70:])
