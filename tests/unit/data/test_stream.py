"""Streams: one order, whoever reads it and wherever it begins."""

from __future__ import annotations

import math
import pickle
import threading
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.samples import TokenSample
from tunesmith.data.stream import MapStream, OrderSettings
from tunesmith.dist.mesh import AxisSizes, Mesh
from tunesmith.errors import DataError


@dataclass
class ListSplit:
    """Prepared rows in memory."""

    samples: list[TokenSample]
    fingerprint: str = "f00d"
    broken: int | None = None

    def __post_init__(self):
        self.lengths = np.asarray([len(s) for s in self.samples], dtype=np.int32)
        tokens = np.asarray([s.total_weight for s in self.samples], dtype=np.float64)
        self.totals = {"tokens": tokens, "pairs": np.full(len(self.samples), 0.1)}

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, row):
        if row == self.broken:
            raise OSError("bad sector")
        return self.samples[row]


def split_of(lengths, fingerprint="f00d"):
    rows = []
    for number, length in enumerate(lengths):
        ids = np.full(length, number, dtype=np.int32)
        runs = ((1, length, 1.0 + number % 3),) if length > 1 else ()
        rows.append(TokenSample(ids, runs, f"data.jsonl:{number + 1}"))
    return ListSplit(rows, fingerprint)


def random_split(n=97, capacity=64, seed=0):
    return split_of(np.random.default_rng(seed).integers(2, capacity + 1, n).tolist())


def mesh_of(rank, ranks):
    """Where one of several data ranks stands; nothing is sent here."""
    return Mesh(torch.device("cpu"), rank, AxisSizes(replicate=ranks))


ONE = mesh_of(0, 1)
ORDER = OrderSettings(seed=3, capacity=64, micro_batch=2, accumulation=4, epochs=2.0, packed=True)


def documents(batches):
    return [source for batch in batches for source in batch.sources if source]


def contents(batch):
    tensors = {**batch.inputs, **batch.targets, "segments": batch.segments}
    plain = {name: tensor.tolist() for name, tensor in tensors.items()}
    return plain, batch.longest, batch.index, batch.sources


def everything(stream, step=0):
    return [[contents(batch) for batch in batches] for batches in stream.from_step(step)]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("micro", "accumulation", "ranks"),
    [(2, 4, 1), (4, 2, 1), (8, 1, 1), (1, 8, 1), (2, 2, 2), (4, 1, 2), (2, 1, 4), (1, 2, 4)],
)
def test_order_is_the_same_however_it_is_cut(packed, micro, accumulation, ranks):
    split = random_split()
    order = replace(ORDER, packed=packed)
    whole = MapStream(split, order, ONE)
    cut = replace(order, micro_batch=micro, accumulation=accumulation)
    streams = [MapStream(split, cut, mesh_of(rank, ranks)) for rank in range(ranks)]
    assert {stream.steps for stream in streams} == {whole.steps}
    for step in range(whole.steps):
        per_rank = [stream.step_batches(step) for stream in streams]
        assert len({len(batches) for batches in per_rank}) == 1
        # Micro-batch m of the global step is m % ranks' own m // ranks-th.
        together = [batches[turn] for turn in range(len(per_rank[0])) for batches in per_rank]
        assert [batch.index for batch in together] == [(step, m) for m in range(len(together))]
        assert documents(together) == documents(whole.step_batches(step))
        assert documents(together) == whole.rows(step)
        assert [s.weights(step) for s in streams] == [whole.weights(step)] * ranks


def test_four_ranks_run_what_one_rank_accumulates():
    split = random_split()
    alone = MapStream(split, replace(ORDER, micro_batch=1, accumulation=4), ONE)
    order = replace(ORDER, micro_batch=1, accumulation=1)
    ranks = [MapStream(split, order, mesh_of(rank, 4)) for rank in range(4)]
    for step in range(alone.steps):
        mine = [contents(batch) for batch in alone.step_batches(step)]
        theirs = [contents(batch) for rank in ranks for batch in rank.step_batches(step)]
        assert theirs[: len(mine)] == mine
        assert all(set(batch[3]) == {""} for batch in theirs[len(mine) :])


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_tail_equals_the_end_of_the_whole(workers):
    split = random_split()
    whole = everything(MapStream(split, ORDER, ONE))
    stream = MapStream(split, replace(ORDER, workers=workers), ONE)
    assert len(whole) == stream.steps
    for step in (0, 1, stream.steps // 2, stream.steps - 1, stream.steps):
        assert everything(stream, step) == whole[step:]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 32), min_size=1, max_size=60),
    st.sampled_from([(1, 1, 1), (2, 1, 1), (1, 3, 1), (2, 2, 2), (3, 1, 4)]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(1, 3),
)
def test_every_row_once_an_epoch_and_every_weight_counted(
    lengths, cut, packed, shuffle, in_order, epochs
):
    micro, accumulation, ranks = cut
    order = OrderSettings(
        seed=1,
        capacity=32,
        micro_batch=micro,
        accumulation=accumulation,
        epochs=epochs,
        packed=packed,
        shuffle=shuffle,
        in_order=in_order,
        pad_to=32 * micro,
    )
    split = split_of(lengths)
    streams = [MapStream(split, order, mesh_of(rank, ranks)) for rank in range(ranks)]
    seen: dict[int, list[str]] = {epoch: [] for epoch in range(epochs)}
    for step in range(streams[0].steps):
        batches = [batch for stream in streams for batch in stream.step_batches(step)]
        weights = streams[0].weights(step)
        assert weights["tokens"] == sum(float(b.targets["weights"].sum()) for b in batches)
        n_rows = len(documents(batches))
        assert weights["pairs"] == pytest.approx(0.1 * n_rows)
        assert {batch.n_tokens for batch in batches} == {32 * micro}
        epoch = math.ceil(streams[0].epoch_at(step + 1) - 1e-9) - 1
        seen[epoch] += documents(batches)
    everyone = sorted(sample.source for sample in split.samples)
    assert [sorted(rows) for rows in seen.values()] == [everyone] * epochs


def test_weights_are_summed_exactly():
    split = random_split(n=40)
    split.totals["odd"] = np.ones(40)
    split.totals["odd"][0] = 2.0**53  # in float64 one more is lost, unless the sum is exact
    order = OrderSettings(seed=1, capacity=64, micro_batch=40, shuffle=False)
    assert MapStream(split, order, ONE).weights(0)["odd"] == float(2**53 + 39)


def test_steps_never_cross_an_epoch():
    split = random_split(n=21)
    order = OrderSettings(seed=1, capacity=64, micro_batch=2, accumulation=2, epochs=2)
    stream = MapStream(split, order, ONE)
    assert stream.steps == 12
    assert [len(stream.rows(step)) for step in range(12)] == [4, 4, 4, 4, 4, 1] * 2
    # No empty micro-batch is run on one device.
    assert [len(stream.step_batches(step)) for step in range(12)] == [2, 2, 2, 2, 2, 1] * 2


def test_epochs_are_shuffled_differently_and_seeds_and_data_matter():
    split = random_split()

    def first_epoch(**changes):
        stream = MapStream(split, replace(ORDER, packed=False, **changes), ONE)
        steps = stream.steps // 2
        rows = [r for s in range(stream.steps) for r in stream.rows(s)]
        return rows[: len(split)], rows[len(split) :], steps

    one, two, _ = first_epoch()
    assert one != two
    assert sorted(one) == sorted(two)
    assert first_epoch()[0] == one
    assert first_epoch(seed=4)[0] != one
    split.fingerprint = "other"
    assert first_epoch()[0] != one
    assert first_epoch(shuffle=False)[0] == [sample.source for sample in split.samples]


@pytest.mark.parametrize(
    ("epochs", "steps"),
    [(1, 30), (0.1, 3), (0.5, 15), (2.25, 68), (1e-6, 1), (0.51, 16), (3, 90)],
)
def test_a_part_of_an_epoch(epochs, steps):
    split = random_split(n=30)
    stream = MapStream(split, OrderSettings(seed=1, capacity=64, epochs=epochs), ONE)
    assert stream.steps == steps
    assert len(everything(stream)) == steps


@pytest.mark.parametrize("max_steps", [1, 5, 30, 31, 200])
def test_max_steps_wins_and_may_go_past_the_last_epoch(max_steps):
    split = random_split(n=30)
    order = OrderSettings(seed=1, capacity=64, epochs=1, max_steps=max_steps)
    stream = MapStream(split, order, ONE)
    assert stream.steps == max_steps == len(everything(stream))
    free = MapStream(split, replace(order, max_steps=None, epochs=10), ONE)
    assert [stream.rows(s) for s in range(max_steps)] == [free.rows(s) for s in range(max_steps)]
    assert stream.epoch_at(max_steps) == pytest.approx(max_steps / 30)


def test_steps_are_exact_where_epochs_differ_in_bins():
    split = random_split(n=200)
    order = OrderSettings(seed=1, capacity=64, packed=True, in_order=True, epochs=6)
    stream = MapStream(split, order, ONE)
    bins = [len(stream.plan_of(epoch)) for epoch in range(6)]
    assert len(set(bins)) > 1
    assert stream.steps == sum(bins)
    rows = [r for s in range(stream.steps) for r in stream.rows(s)]
    assert len(rows) == 6 * 200
    assert stream.epoch_at(bins[0]) == 1
    assert stream.epoch_at(stream.steps) == 6


def test_epoch_at_counts_finished_steps():
    stream = MapStream(random_split(n=8), OrderSettings(seed=1, capacity=64, micro_batch=2), ONE)
    assert [stream.epoch_at(step) for step in range(9)] == [n / 4 for n in range(9)]


def test_similar_lengths_are_forwarded_together_on_any_number_of_ranks():
    split = random_split(n=160, capacity=64)
    order = OrderSettings(
        seed=1, capacity=64, micro_batch=4, accumulation=2, group_by_length=True, epochs=1
    )
    stream = MapStream(split, order, ONE)

    def spread(s):
        sizes = [split.lengths[s.global_rows(step)] for step in range(s.steps)]
        return np.mean([np.ptp(size) for size in sizes])

    assert spread(stream) < spread(MapStream(split, replace(order, group_by_length=False), ONE)) / 3
    two = MapStream(split, replace(order, accumulation=1), mesh_of(1, 2))
    assert [two.rows(s) for s in range(20)] == [stream.rows(s) for s in range(20)]


def test_few_plans_are_kept_and_threads_may_ask_together():
    stream = MapStream(random_split(n=50), replace(ORDER, epochs=9), ONE)
    rows = [stream.rows(step) for step in range(stream.steps)]
    assert len(stream._plans) == 2
    found: dict[int, list[str]] = {}

    def read(step):
        found[step] = stream.rows(step)

    threads = [threading.Thread(target=read, args=(step,)) for step in range(stream.steps)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[step] for step in range(stream.steps)] == rows


@pytest.mark.parametrize("workers", [0, 2])
def test_a_row_that_cannot_be_read_is_named_when_its_turn_comes(workers):
    split = random_split(n=30)
    order = OrderSettings(seed=1, capacity=64, workers=workers)
    stream = MapStream(split, order, ONE)
    split.broken = int(stream.global_rows(7)[0])
    steps = stream.from_step(0)
    for _ in range(7):
        next(steps)
    with pytest.raises(DataError, match=f"row {split.broken} cannot be read: bad sector"):
        next(steps)


def test_threads_end_when_the_reader_stops():
    before = threading.active_count()
    stream = MapStream(random_split(n=64), OrderSettings(seed=1, capacity=64, workers=3), ONE)
    steps = stream.from_step(0)
    next(steps)
    assert threading.active_count() > before
    steps.close()
    assert threading.active_count() == before


def test_no_rows_and_rows_that_are_too_long_are_refused():
    with pytest.raises(DataError, match="no rows"):
        MapStream(split_of([]), ORDER, ONE)
    with pytest.raises(DataError, match="row 1 has 65 tokens"):
        MapStream(split_of([3, 65]), ORDER, ONE)


def test_the_order_survives_pickling_of_its_settings():
    assert pickle.loads(pickle.dumps(ORDER)) == ORDER
