from __future__ import annotations

import pytest
import torch
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tests.conformance.tiny import VOCAB, build
from tunesmith.config.kernels import KernelsSection
from tunesmith.errors import PatchError
from tunesmith.patches.attention import NAME, attend
from tunesmith.patches.patch import Patch, applied, apply
from tunesmith.patches.plan import VARLEN, plan_patches


def registered():
    return (NAME in ALL_ATTENTION_FUNCTIONS, NAME in ALL_MASK_ATTENTION_FUNCTIONS)


def test_a_patch_is_undone():
    before = (dict(ALL_ATTENTION_FUNCTIONS), dict(ALL_MASK_ATTENTION_FUNCTIONS))
    undo = apply(VARLEN)
    assert registered() == (True, True)
    undo()
    assert (dict(ALL_ATTENTION_FUNCTIONS), dict(ALL_MASK_ATTENTION_FUNCTIONS)) == before


def test_patches_are_undone_when_something_fails_between():
    broken = Patch("x", "x", "x", "x", "0.1", "tunesmith.patches.attention:no_such_door")
    with pytest.raises(PatchError, match="no_such_door"), applied([VARLEN, broken]):
        pass
    assert registered() == (False, False)


def test_a_name_that_someone_else_took_is_an_error():
    AttentionInterface.register(NAME, lambda *a, **k: None)
    try:
        with pytest.raises(PatchError, match="already has"):
            apply(VARLEN)
    finally:
        del ALL_ATTENTION_FUNCTIONS._global_mapping[NAME]


def test_the_plan_isolates_where_it_can_and_says_why_where_it_cannot():
    plan = plan_patches(KernelsSection(), isolates=True)
    assert plan.patches == (VARLEN,)
    assert (plan.attention, plan.layout) == (NAME, "flat")
    plan = plan_patches(KernelsSection(), isolates=False, why="it has conv layers")
    assert plan.patches == ()
    assert (plan.attention, plan.layout) == ("sdpa", "rows")
    assert "conv layers" in plan.reason
    asked = KernelsSection(attention="eager")
    assert plan_patches(asked, isolates=False).attention == "eager"
    assert "eager cannot keep them apart" in plan_patches(asked, isolates=True).reason


@pytest.fixture
def model():
    with applied([VARLEN]):
        yield build("Gemma2")


def test_padded_rows_and_caches_work_outside_of_packing(model):
    """Generation goes through the same function: left padding and a cache, softcap and window."""
    eager = build("Gemma2", attention="eager")
    ids = torch.randint(3, VOCAB, (2, 9), generator=torch.Generator().manual_seed(4))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    with torch.no_grad():
        one = model(input_ids=ids, attention_mask=mask).logits[mask.bool()]
        two = eager(input_ids=ids, attention_mask=mask).logits[mask.bool()]
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
    options = {"attention_mask": mask, "max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(model.generate(ids, **options), eager.generate(ids, **options))


def test_restarting_positions_without_bounds_still_isolate(model):
    """Someone who packs by positions alone gets transformers' own mask, not a leak."""
    ids = torch.randint(3, VOCAB, (1, 10), generator=torch.Generator().manual_seed(4))
    positions = torch.cat([torch.arange(4), torch.arange(6)])[None]
    other = ids.clone()
    other[0, :4] = ids[0, :4].flip(0)
    with torch.no_grad():
        one, two = (
            model(input_ids=i, position_ids=positions, use_cache=False).logits[0, 4:]
            for i in (ids, other)
        )
    assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"is_causal": False}, "not causal"),
        ({"position_bias": torch.zeros(1)}, "position bias"),
        ({"output_attentions": True}, "weights were asked for"),
        ({"cu_seq_lens_q": torch.tensor([0, 3])}, "longest length"),
    ],
)
def test_what_it_cannot_compute_is_an_error(arguments, reason):
    q = torch.zeros(1, 2, 3, 8)
    with pytest.raises(PatchError, match=reason):
        attend(torch.nn.Identity(), q, q, q, None, **arguments)


def test_bounds_beside_a_mask_are_an_error():
    q = torch.zeros(1, 2, 3, 8)
    with pytest.raises(PatchError, match="with a mask"):
        attend(
            torch.nn.Identity(),
            q,
            q,
            q,
            torch.zeros(1, 1, 3, 3),
            cu_seq_lens_q=torch.tensor([0, 3]),
            max_length_q=3,
        )
