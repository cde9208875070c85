"""Collating: documents end to end, targets shifted inside each, padding that weighs nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.collate import collate, pad_lengths
from tunesmith.data.samples import TokenSample
from tunesmith.errors import DataError


def sample(ids, runs=(), source="a.jsonl:1"):
    return TokenSample(np.asarray(ids, dtype=np.int32), tuple(runs), source)


def test_two_documents_by_hand():
    batch = collate(
        [sample([1, 2, 3, 4], [(2, 4, 1.0)], "a:1"), sample([5, 6], [(1, 2, 0.5)], "a:2")],
        index=(7, 3),
        capacity=4,
        pad_to=8,
        pad_id=9,
    )
    assert batch.inputs["input_ids"].tolist() == [1, 2, 3, 4, 5, 6, 9, 9]
    assert batch.inputs["position_ids"].tolist() == [0, 1, 2, 3, 0, 1, 0, 1]
    assert batch.targets["target_ids"].tolist() == [2, 3, 4, 9, 6, 9, 9, 9]
    assert batch.targets["weights"].tolist() == [0, 1, 1, 0, 0.5, 0, 0, 0]
    assert batch.segments.tolist() == [0, 4, 6, 8]
    assert batch.longest == 4
    assert type(batch.longest) is int
    assert batch.index == (7, 3)
    assert batch.sources == ("a:1", "a:2", "")


def test_dtypes_are_those_of_the_contract():
    batch = collate([sample([1, 2], [(1, 2, 1.0)])], index=(0, 0), capacity=2)
    assert batch.inputs["input_ids"].dtype == torch.int64
    assert batch.inputs["position_ids"].dtype == torch.int64
    assert batch.targets["target_ids"].dtype == torch.int64
    assert batch.targets["weights"].dtype == torch.float32
    assert batch.segments.dtype == torch.int32


def test_padding_documents_are_no_longer_than_the_capacity():
    batch = collate([sample([1, 2, 3])], index=(0, 0), capacity=4, pad_to=16, pad_id=0)
    assert batch.segments.tolist() == [0, 3, 7, 11, 15, 16]
    assert batch.longest == 4
    assert batch.targets["weights"].sum() == 0
    assert pad_lengths(0, 4) == []


def test_without_samples_there_is_one_weightless_document():
    batch = collate([], index=(0, 1), capacity=8, pad_id=3)
    assert batch.inputs["input_ids"].tolist() == [3]
    assert batch.segments.tolist() == [0, 1]
    assert batch.targets["weights"].tolist() == [0]
    assert batch.sources == ("",)
    filled = collate([], index=(0, 1), capacity=8, pad_to=16, pad_id=3)
    assert filled.segments.tolist() == [0, 8, 16]


def test_samples_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="do not fit into 4") as caught:
        collate([sample([1, 2, 3]), sample([4, 5])], index=(0, 0), capacity=4, pad_to=4)
    assert caught.value.where == "a.jsonl:1"


def test_a_weight_on_the_first_token_is_refused():
    with pytest.raises(DataError, match="first token") as caught:
        collate([sample([1, 2], [(0, 2, 1.0)], "b.jsonl:9")], index=(0, 0), capacity=4)
    assert caught.value.where == "b.jsonl:9"


def test_an_empty_document_is_refused():
    with pytest.raises(DataError, match="without tokens"):
        collate([sample([])], index=(0, 0), capacity=4)


@st.composite
def samples(draw):
    made = []
    for number in range(draw(st.integers(0, 5))):
        ids = draw(st.lists(st.integers(0, 99), min_size=1, max_size=9))
        cuts = sorted(draw(st.sets(st.integers(1, len(ids)), max_size=4)))
        weights = draw(st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=4, max_size=4))
        pairs = zip(cuts[::2], cuts[1::2], strict=False)
        runs = [(a, b, w) for (a, b), w in zip(pairs, weights, strict=False)]
        made.append(sample(ids, runs, f"f:{number}"))
    return made


@settings(max_examples=150, deadline=None)
@given(samples(), st.integers(0, 20))
def test_nothing_is_lost(made, spare):
    total = sum(map(len, made))
    pad_to = total + spare or None
    batch = collate(made, index=(0, 0), capacity=9, pad_to=pad_to, pad_id=0)
    assert batch.n_tokens == (pad_to or 1)
    assert float(batch.targets["weights"].sum()) == sum(s.total_weight for s in made)
    for number, one in enumerate(made):
        start, end = batch.segments[number : number + 2].tolist()
        assert batch.inputs["input_ids"][start:end].tolist() == one.input_ids.tolist()
        assert batch.targets["weights"][end - 1] == 0
        shifted = batch.targets["weights"][start : end - 1].tolist()
        assert shifted == one.target_weights()[1:].tolist()
        assert batch.targets["target_ids"][start : end - 1].tolist() == one.input_ids[1:].tolist()
        assert batch.inputs["position_ids"][start:end].tolist() == list(range(end - start))
    assert not batch.targets["weights"][total:].any()
