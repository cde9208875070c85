"""Packing: bins that hold everything once, are full, and are the same everywhere."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.packing import (
    PackingRule,
    derive_key,
    group_by_length,
    pack_shapes,
    permutation,
    plan_epoch,
)
from tunesmith.errors import DataError


def realistic(n: int, capacity: int, seed: int = 0) -> np.ndarray:
    """Log-normal lengths with a median of 300, as instruction data has them."""
    drawn = np.random.default_rng(seed).lognormal(5.7, 0.9, n)
    return np.clip(drawn, 8, capacity).astype(np.int32)


def best_fit_by_hand(lengths, capacity):
    """The loads of best-fit-decreasing bins, one document at a time."""
    loads: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [at for at, load in enumerate(loads) if load + length <= capacity]
        if fitting:
            loads[max(fitting, key=loads.__getitem__)] += length
        else:
            loads.append(length)
    return sorted(loads)


def bins_of(plan):
    return [rows.tolist() for rows in plan.bins(0, len(plan))]


def permutation_by_hand(n: int, key: int) -> list[int]:
    """SplitMix64 in plain integers."""
    mask = (1 << 64) - 1
    draws = []
    for index in range(n):
        z = (key + (index + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        draws.append(z ^ (z >> 31))
    return sorted(range(n), key=draws.__getitem__)


@pytest.mark.parametrize(("n", "key"), [(0, 1), (1, 2), (10, 0), (1000, 2**64 - 1), (257, 12345)])
def test_permutation_equals_plain_integers(n, key):
    assert permutation(n, key).tolist() == permutation_by_hand(n, key)


def test_permutation_follows_published_numbers():
    # SplitMix64 from seed 1234567 (rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64).
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert permutation(5, 1234567).tolist() == sorted(range(5), key=published.__getitem__)


def test_keys_are_pinned():
    # A change would reorder every run that is to be resumed.
    assert derive_key("rows", 7) == 15903824153388783642


def test_permutation_mixes():
    n = 20_000
    first, second = permutation(n, 1), permutation(n, 2)
    assert sorted(first.tolist()) == list(range(n))
    assert (first == second).sum() < 20
    # Neither its place nor the other key's place says anything about a row's place.
    assert abs(np.corrcoef(np.arange(n), first)[0, 1]) < 0.03
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.03


def test_keys_do_not_run_into_each_other():
    keys = {derive_key("a", "bc"), derive_key("ab", "c"), derive_key("abc"), derive_key("a", 1, 2)}
    assert len(keys | {derive_key("a", 12), derive_key("a", "12"), derive_key("a", 1, "2")}) == 7


lengths_and_capacity = st.integers(1, 64).flatmap(
    lambda capacity: st.tuples(
        st.lists(st.integers(1, capacity), min_size=1, max_size=80), st.just(capacity)
    )
)


@settings(max_examples=200, deadline=None)
@given(lengths_and_capacity)
def test_shapes_are_best_fit_decreasing(case):
    lengths, capacity = case
    shapes = pack_shapes(np.asarray(lengths, dtype=np.int32), PackingRule(capacity))
    ours = np.add.reduceat(shapes.lengths, shapes.offsets[:-1])
    # Which of two equally full bins is taken is free, and does not change the loads.
    assert sorted(ours.tolist()) == best_fit_by_hand(lengths, capacity)
    assert sorted(shapes.lengths.tolist()) == sorted(lengths)


def test_few_documents_a_bin_cost_few_bins():
    lengths = np.full(1000, 10, dtype=np.int32)
    shapes = pack_shapes(lengths, PackingRule(1000, max_documents=8))
    assert np.diff(shapes.offsets).tolist() == [8] * 125
    mixed = np.asarray([50] + [1] * 10, dtype=np.int32)
    shapes = pack_shapes(mixed, PackingRule(60, max_documents=3))
    assert sorted(np.diff(shapes.offsets).tolist()) == [2, 3, 3, 3]


@settings(max_examples=150, deadline=None)
@given(
    lengths_and_capacity,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.one_of(st.none(), st.integers(1, 5)),
    st.integers(0, 2**64 - 1),
)
def test_every_row_is_in_one_bin_that_holds_it(case, packed, shuffle, in_order, most, key):
    lengths, capacity = np.asarray(case[0], dtype=np.int32), case[1]
    rule = PackingRule(capacity, packed, shuffle, in_order, most)
    plan = plan_epoch(lengths, rule, key=key)
    assert sorted(plan.members.tolist()) == list(range(len(lengths)))
    for rows in plan.bins(0, len(plan)):
        assert 1 <= len(rows) <= (most or len(lengths))
        assert lengths[rows].sum() <= capacity
        assert packed or len(rows) == 1


def test_bins_are_full():
    lengths = realistic(100_000, 2048)
    plan = plan_epoch(lengths, PackingRule(2048), key=1)
    assert lengths.sum() / (len(plan) * 2048) > 0.999


def test_epochs_differ_in_members_and_not_in_number():
    lengths = realistic(5_000, 2048)
    rule = PackingRule(2048)
    first, again, second = (plan_epoch(lengths, rule, key=key) for key in (1, 1, 2))
    assert bins_of(first) == bins_of(again)
    assert len(first) == len(second)
    together = {frozenset(rows) for rows in bins_of(first)}
    assert len(together & {frozenset(rows) for rows in bins_of(second)}) < len(first) / 2


def test_order_of_bins_and_members_does_not_follow_the_data():
    lengths = realistic(5_000, 2048)
    plan = plan_epoch(lengths, PackingRule(2048), key=3)
    sizes = np.diff(plan.offsets)
    assert abs(np.corrcoef(np.arange(len(plan)), sizes)[0, 1]) < 0.1
    assert abs(np.corrcoef(np.arange(len(lengths)), plan.members)[0, 1]) < 0.1


def test_shapes_may_be_carried_from_epoch_to_epoch():
    lengths = realistic(2_000, 1024)
    rule = PackingRule(1024)
    shapes = pack_shapes(lengths, rule)
    assert bins_of(plan_epoch(lengths, rule, key=9, shapes=shapes)) == bins_of(
        plan_epoch(lengths, rule, key=9)
    )


def test_without_a_shuffle_bins_come_by_their_first_row():
    lengths = np.asarray([4, 9, 6, 1, 10], dtype=np.int32)
    plan = plan_epoch(lengths, PackingRule(10, shuffle=False), key=1)
    assert bins_of(plan) == [[2, 0], [1, 3], [4]]
    unpacked = plan_epoch(lengths, PackingRule(10, packed=False, shuffle=False), key=1)
    assert bins_of(unpacked) == [[0], [1], [2], [3], [4]]


def test_in_order_takes_neighbours_while_they_fit():
    lengths = np.asarray([4, 4, 3, 7, 2, 1, 1, 1], dtype=np.int32)
    rule = PackingRule(10, shuffle=False, in_order=True)
    assert bins_of(plan_epoch(lengths, rule, key=1)) == [[0, 1], [2, 3], [4, 5, 6, 7]]
    few = PackingRule(10, shuffle=False, in_order=True, max_documents=2)
    assert bins_of(plan_epoch(lengths, few, key=1)) == [[0, 1], [2, 3], [4, 5], [6, 7]]
    shuffled = plan_epoch(lengths, PackingRule(10, in_order=True), key=5)
    assert shuffled.members.tolist() == permutation(8, derive_key("rows", 5)).tolist()


def test_in_order_equals_axolotl(reference):
    records = (reference / "goldens" / "packing.jsonl").read_text().splitlines()
    compared = 0
    for record in map(json.loads, records):
        lengths = np.asarray(record.get("lengths", []), dtype=np.int32)
        # A row beyond the capacity is an error of ours; axolotl gives it a bin of its own.
        if not record.get("sequential") or lengths.max() > record["batch_max_len"]:
            continue
        theirs = [rows for batch in record["batches"] for rows in batch]
        rule = PackingRule(
            record["batch_max_len"],
            shuffle=False,
            in_order=True,
            max_documents=record["bin_size"],
        )
        assert bins_of(plan_epoch(lengths, rule, key=0)) == theirs, record["id"]
        compared += 1
    assert compared >= 3


def test_empty_and_too_long_rows_are_refused():
    for lengths, row in (([5, 11, 3], 1), ([5, 3, 0], 2)):
        with pytest.raises(DataError, match=f"row {row} ") as caught:
            plan_epoch(np.asarray(lengths, dtype=np.int32), PackingRule(10), key=0)
        assert "sequence_len" in caught.value.hint


def test_a_million_lengths_take_about_a_second():
    lengths = realistic(1_000_000, 4096)
    began = time.process_time()
    plan = plan_epoch(lengths, PackingRule(4096), key=1)
    assert time.process_time() - began < 3
    assert lengths.sum() / (len(plan) * 4096) > 0.999


def test_similar_lengths_share_a_step():
    lengths = realistic(2_005, 4096)
    plan = plan_epoch(lengths, PackingRule(4096, packed=False), key=4)
    grouped = group_by_length(plan, lengths, step_bins=8, key=4)
    assert sorted(grouped.members.tolist()) == list(range(2_005))

    def spread(p):
        return np.mean([np.ptp(lengths[p.rows(at, at + 8)]) for at in range(0, 2_000, 8)])

    assert spread(grouped) < spread(plan) / 4
    assert len(grouped.rows(2_000, 2_008)) == 5
    # Length does not follow time, neither over the epoch nor inside of a sorted window.
    means = [lengths[grouped.rows(at, at + 8)].mean() for at in range(0, 2_000, 8)]
    for part in (means, means[:50]):
        assert abs(np.corrcoef(np.arange(len(part)), part)[0, 1]) < 0.4
