"""What an epoch draws of each data set."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.data.test_stream import ONE, ORDER, ListSplit, documents, split_of
from tunesmith.data.mixing import PLAIN, Mixture, Share, draw_epoch, quotas
from tunesmith.data.stream import MapStream


def draw(datasets, mixture, epoch=0, *, shuffle=False, key=1):
    numbers = np.asarray(datasets, dtype=np.int64)
    return draw_epoch(numbers, mixture, epoch=epoch, key=key, shuffle=shuffle).tolist()


def test_repeats_are_exact_and_what_is_left_over_comes_next():
    sets = [0] * 4 + [1] * 3
    twice = Mixture((Share(2.0), Share(0.5)))
    assert draw(sets, twice, 0) == [0, 1, 2, 3, 0, 1, 2, 3, 4]
    assert draw(sets, twice, 1) == [0, 1, 2, 3, 0, 1, 2, 3, 5, 6]
    assert draw(sets, twice, 2) == [0, 1, 2, 3, 0, 1, 2, 3, 4]


def test_weights_end_with_the_first_or_the_last_data_set():
    shares = (Share(weight=3.0), Share(weight=1.0), Share())
    assert quotas([30, 100, 100], Mixture(shares)) == [30.0, 10.0, 10.0]
    assert quotas([30, 100, 100], Mixture(shares, "all_exhausted")) == [300.0, 100.0, 100.0]
    assert quotas([0, 100, 50], Mixture(shares)) == [0.0, 50.0, 50.0]
    assert quotas([0, 0, 0], Mixture(shares)) == [0.0, 0.0, 0.0]
    doubled = (Share(2.0, 3.0), Share(weight=1.0))
    assert quotas([30, 100], Mixture(doubled)) == [60.0, 20.0]


SHARES = st.builds(
    Share,
    repeats=st.floats(0.05, 4.0),
    weight=st.none() | st.floats(0.05, 20.0),
)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    shares=st.lists(SHARES, min_size=4, max_size=4),
    until=st.sampled_from(["first_exhausted", "all_exhausted"]),
    shuffle=st.booleans(),
    epochs=st.integers(1, 6),
)
def test_over_the_epochs_no_row_is_favoured(sizes, shares, until, shuffle, epochs):
    datasets = np.repeat(np.arange(len(sizes)), sizes)
    mixture = Mixture(tuple(shares[: len(sizes)]), until)
    seen = Counter()
    for epoch in range(epochs):
        rows = draw(datasets, mixture, epoch, shuffle=shuffle)
        assert rows == draw(datasets, mixture, epoch, shuffle=shuffle)
        seen.update(rows)
    for number, quota in enumerate(quotas(sizes, mixture)):
        counts = [seen[row] for row in np.flatnonzero(datasets == number).tolist()]
        assert max(counts) - min(counts) <= 1
        assert sum(counts) == pytest.approx(epochs * quota, abs=1)


def test_shuffles_within_the_data_sets_and_keeps_them_apart():
    sets = [0] * 50 + [1] * 50
    mixture = Mixture((Share(), Share()), shuffle_within=True)
    rows = draw(sets, mixture)
    assert sorted(rows[:50]) == list(range(50)) != rows[:50]
    assert sorted(rows[50:]) == list(range(50, 100)) != rows[50:]
    assert [row - 50 for row in rows[50:]] != rows[:50]
    assert draw(sets, mixture, 1) != rows
    assert draw(sets, mixture, key=2) != rows


def test_interleaves_evenly_and_in_order():
    sets = [0] * 6 + [1] * 3
    rows = draw(sets, Mixture((Share(), Share()), interleave=True))
    assert rows == [0, 6, 1, 2, 7, 3, 4, 8, 5]
    for start in range(0, 9, 3):
        assert sum(row >= 6 for row in rows[start : start + 3]) == 1


def test_plain_is_plain():
    assert PLAIN.is_plain
    assert Mixture((Share(), Share(1.0))).is_plain
    for other in (
        Mixture((Share(2.0),)),
        Mixture((Share(weight=1.0),)),
        Mixture(shuffle_within=True),
        Mixture(interleave=True),
    ):
        assert not other.is_plain


class Mixed(ListSplit):
    """Rows of two data sets: the second has every third."""

    @property
    def datasets(self):
        return (np.arange(len(self)) % 3 == 2).astype(np.int64)


@pytest.fixture
def split():
    samples = split_of(np.random.default_rng(0).integers(2, 33, 60).tolist()).samples
    return Mixed(samples)


@pytest.mark.parametrize("packed", [True, False])
def test_a_stream_draws_its_mixture_with_exact_steps(split, packed):
    mixture = Mixture((Share(1.5), Share(0.5)))
    order = replace(ORDER, mixture=mixture, packed=packed, epochs=2.0, capacity=64)
    stream = MapStream(split, order, ONE)
    batches = list(stream.from_step(0))
    assert len(batches) == stream.steps
    seen = Counter(source for step in batches for source in documents(step))
    of_set = [Counter(), Counter()]
    for source, count in seen.items():
        row = int(source.rpartition(":")[2]) - 1
        of_set[int(row % 3 == 2)][count] += 1
    assert of_set == [Counter({3: 40}), Counter({1: 20})]
    again = [documents(step) for step in MapStream(split, order, ONE).from_step(stream.steps // 2)]
    assert again == [documents(step) for step in batches[stream.steps // 2 :]]


def test_a_mixture_of_all_once_is_the_plain_order(split):
    plain = [stream.rows(step) for stream in [MapStream(split, ORDER, ONE)] for step in range(4)]
    once = replace(ORDER, mixture=Mixture((Share(), Share())))
    assert [MapStream(split, once, ONE).rows(step) for step in range(4)] == plain
