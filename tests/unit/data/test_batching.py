"""Further ways to cut an epoch into steps: groups, token budgets, full steps only, even lengths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests import smallrun
from tests.unit.data.test_stream import ONE, ORDER, documents, mesh_of, random_split
from tunesmith.config.read import load
from tunesmith.data.packing import PackingRule, plan_epoch
from tunesmith.data.stream import MapStream
from tunesmith.errors import DataError
from tunesmith.runs.plan import train_order


def test_groups_share_no_bin():
    lengths = np.random.default_rng(1).integers(1, 40, 100).astype(np.int32)
    rule = PackingRule(64, shuffle=False, group=30)
    plan = plan_epoch(lengths, rule, key=3)
    members = [one.tolist() for one in plan.bins(0, len(plan))]
    assert sorted(row for one in members for row in one) == list(range(100))
    for one in members:
        assert len({row // 30 for row in one}) == 1
        assert lengths[one].sum() <= 64
    firsts = [min(one) for one in members]
    assert firsts == sorted(firsts)
    alone = sum(
        len(plan_epoch(lengths[at : at + 30], replace(rule, group=None), key=3))
        for at in range(0, 100, 30)
    )
    assert len(plan) == alone


def test_a_group_of_all_rows_is_no_group():
    lengths = np.random.default_rng(1).integers(1, 40, 100).astype(np.int32)
    whole = plan_epoch(lengths, PackingRule(64), key=3)
    for group in (100, 100_000):
        same = plan_epoch(lengths, PackingRule(64, group=group), key=3)
        assert same.members.tolist() == whole.members.tolist()
    other = plan_epoch(lengths, PackingRule(64, group=20), key=3)
    assert sorted(other.members.tolist()) == list(range(100))
    assert len(other) >= len(whole)


@pytest.mark.parametrize("group", [None, 10])
def test_steps_are_exact_with_groups(group):
    split = random_split()
    stream = MapStream(split, replace(ORDER, group=group, epochs=3.0), ONE)
    batches = list(stream.from_step(0))
    assert len(batches) == stream.steps
    assert len([source for step in batches for source in documents(step)]) == 3 * len(split)


@pytest.mark.parametrize("packed", [True, False])
def test_only_full_steps(packed):
    split = random_split(n=101)
    order = replace(ORDER, packed=packed, epochs=2.0)
    all_steps = MapStream(split, order, ONE)
    full = MapStream(split, replace(order, drop_last=True), ONE)
    bins = len(all_steps.plan_of(0))
    assert bins % full.step_bins
    assert full.steps == all_steps.steps - 2
    sizes = [sum(1 for _ in step) for step in full.from_step(0)]
    assert set(sizes) == {order.accumulation}
    assert [full.rows(step) for step in range(3)] == [all_steps.rows(step) for step in range(3)]
    assert full.epoch_at(full.steps) == 2.0


def test_no_full_step_at_all():
    with pytest.raises(DataError, match="leaves no step") as error:
        MapStream(random_split(n=5), replace(ORDER, packed=False, drop_last=True), ONE)
    assert "dataloader_drop_last" in error.value.hint


@pytest.mark.parametrize("multiple", [1, 16, 100])
def test_micro_batches_of_a_multiple_of_tokens(multiple):
    stream = MapStream(random_split(), replace(ORDER, pad_multiple=multiple), ONE)
    plain = MapStream(random_split(), ORDER, ONE)
    for padded, bare in zip(stream.from_step(0), plain.from_step(0), strict=True):
        for one, other in zip(padded, bare, strict=True):
            assert one.n_tokens % multiple == 0
            assert 0 <= one.n_tokens - other.n_tokens < multiple
            real = other.n_tokens
            assert one.inputs["input_ids"][:real].equal(other.inputs["input_ids"])
            assert one.targets["weights"][real:].sum() == 0
    assert stream.weights(0) == plain.weights(0)


def test_a_rank_without_a_bin_is_padded_too():
    order = replace(ORDER, packed=False, pad_multiple=8, micro_batch=1, accumulation=1)
    stream = MapStream(random_split(n=5), order, mesh_of(3, 4))
    assert [batch.n_tokens for batch in stream.step_batches(1)] == [8]


# --- a budget of tokens ---------------------------------------------------------------------------


class _Facts:
    pad_id = 0


def order_of(tmp_path, **changes):
    keys = smallrun.keys(tmp_path, tmp_path, sample_packing=None, **changes)
    config = load(keys).config
    return train_order(config, _Facts(), (3, 2), packed=False, static=False)


def test_a_budget_packs_whole_rows_into_micro_batches(tmp_path):
    order = order_of(tmp_path, batch_tokens=1000, sequence_len=256)
    assert (order.capacity, order.packed) == (1000, True)
    assert order_of(tmp_path, sequence_len=256).packed is False
    assert order_of(tmp_path, batch_tokens=100, sequence_len=256).capacity == 256
    split = random_split(n=200, capacity=256)
    stream = MapStream(split, replace(order, micro_batch=1, shuffle=True), ONE)
    sizes = [batch.n_tokens for step in range(stream.steps) for batch in stream.step_batches(step)]
    assert max(sizes) <= 1000
    assert np.mean(sizes[:-1]) > 950


def test_the_mixture_of_a_config(tmp_path):
    entries = [{"path": "a", "repeats": 2}, {"path": "b", "weight": 0.5}]
    order = order_of(tmp_path, datasets=entries, mixture_until="all_exhausted")
    assert [(share.repeats, share.weight) for share in order.mixture.shares] == [
        (2.0, None),
        (1.0, 0.5),
    ]
    assert order.mixture.until == "all_exhausted"
    plain = order_of(tmp_path, datasets=[{"path": "a"}, {"path": "b"}])
    assert plain.mixture.is_plain
    kept = order_of(tmp_path, curriculum_sampling=True, interleave_datasets=True)
    assert kept.mixture.interleave
    assert not kept.shuffle
    within = order_of(
        tmp_path,
        curriculum_sampling=True,
        shuffle_merged_datasets=False,
        shuffle_before_merging_datasets=True,
    )
    assert within.mixture.shuffle_within
    assert not within.shuffle
    # The merge's order is no order of training: an epoch is drawn unless the order is asked for.
    merged = order_of(tmp_path, shuffle_merged_datasets=False)
    assert merged.shuffle
    assert merged.mixture.is_plain
    streamed = order_of(tmp_path, streaming=True, datasets=[{"path": "a", "weight": 2}])
    assert streamed.mixture.is_plain
