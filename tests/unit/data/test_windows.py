"""Streams: windows that are prepared while training runs, and the steps that are drawn of them."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from dataclasses import replace

import pytest

from tests.unit.data.test_stream import ORDER, contents, documents, mesh_of
from tests.unit.data.toys import alpaca_rows, request, write_jsonl
from tunesmith.config.data import DatasetEntry
from tunesmith.data import live, windows
from tunesmith.data.live import WindowStream
from tunesmith.data.windows import StreamRequest, Windows
from tunesmith.errors import ConfigError, DataError

ONE = mesh_of(0, 1)
STREAMED = replace(ORDER, capacity=512, max_steps=12, micro_batch=1, accumulation=2)


def entry(path, **keys):
    return DatasetEntry(path=str(path), type="alpaca", **keys)


@pytest.fixture
def path(tmp_path):
    return write_jsonl(tmp_path / "a.jsonl", alpaca_rows(50))


@pytest.fixture
def make(tmp_path):
    """Makes windows over entries, and closes them in the end."""
    made = []

    def of(entries, *, window=16, weights=None, **keys):
        asked = StreamRequest(request(entries, tmp_path, **keys), window, weights)
        made.append(Windows(asked))
        return made[-1]

    yield of
    for one in made:
        one.close()


def sources(opened):
    split, _ = opened
    return [split[number].source for number in range(len(split))]


def everything(stream, step=0):
    return [[contents(batch) for batch in batches] for batches in stream.from_step(step)]


# --- windows --------------------------------------------------------------------------------------


def test_a_pass_is_every_row_once_in_order_and_comes_again(make, path):
    found = make([entry(path)])
    assert found.n_windows is None
    opened = [sources(found.open(number)) for number in range(9)]
    assert found.n_windows == 4
    assert [len(rows) for rows in opened[:4]] == [16, 16, 16, 2]
    assert [row for rows in opened[:4] for row in rows] == [
        f"{path}:{number}" for number in range(1, 51)
    ]
    assert opened[4:8] == opened[:4]
    assert opened[8] == opened[0]


def test_windows_are_the_same_in_any_order_of_asking_and_are_built_once(make, path, monkeypatch):
    forward = make([entry(path)])
    expected = [sources(forward.open(number)) for number in range(4)]
    shutil.rmtree(forward.folder)
    backward = make([entry(path)])
    assert [sources(backward.open(number)) for number in (3, 0, 2, 1)] == [
        expected[number] for number in (3, 0, 2, 1)
    ]
    monkeypatch.setattr(Windows, "_build_alone", lambda *_: pytest.fail("it was there"))
    again = make([entry(path)])
    assert again.folder == forward.folder
    assert [sources(again.open(number)) for number in range(4)] == expected


def test_another_window_another_mixture_another_file_are_other_streams(make, path):
    folders = {
        make([entry(path)]).folder,
        make([entry(path)], window=17).folder,
        make([entry(path), entry(path)]).folder,
        make([entry(path), entry(path)], weights=(1.0, 2.0)).folder,
    }
    data = path.read_bytes()
    path.write_bytes(data.replace(b"Say 7.", b"Say 8."))
    folders.add(make([entry(path)]).folder)
    assert len(folders) == 5
    path.write_bytes(data)
    assert make([entry(path)]).folder in folders


def test_weights_mix_row_by_row_until_the_first_ends(make, path, tmp_path):
    other = write_jsonl(tmp_path / "b.jsonl", alpaca_rows(9, start=100))
    found = make([entry(path), entry(other)], weights=(3.0, 1.0), window=8)
    opened = [sources(found.open(number)) for number in range(6)]
    counts = [Counter(row.rpartition(":")[0] for row in rows)[str(other)] for rows in opened]
    assert found.n_windows == 5
    assert counts == [2, 2, 2, 2, 1, 2]
    assert sum(map(len, opened[:5])) == 36 + len(opened[4]) - 4
    assert opened[5] == opened[0]


def test_one_data_set_after_the_other_without_weights(make, path, tmp_path):
    other = write_jsonl(tmp_path / "b.jsonl", alpaca_rows(9, start=100))
    found = make([entry(path, skip=40), entry(other)], window=16)
    rows = sources(found.open(0))
    assert rows == [f"{path}:{n}" for n in range(41, 51)] + [f"{other}:{n}" for n in range(1, 7)]


def test_every_window_has_a_balanced_account(make, tmp_path):
    rows = [*alpaca_rows(20), {"instruction": "a", "input": "", "output": "x" * 900}]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    found = make([entry(path)])
    ledgers = [found.open(number)[1] for number in range(2)]
    accounts = [ledger.accounts[0] for ledger in ledgers]
    assert [account.rows_in for account in accounts] == [16, 5]
    assert accounts[1].rows_dropped == {"longer than sequence_len (512)": 1}
    for ledger in ledgers:
        ledger.check()


def test_a_broken_row_is_named_when_its_window_comes(make, tmp_path):
    rows = [*alpaca_rows(20), {"instruction": "a"}, *alpaca_rows(3)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    found = make([entry(path)])
    assert len(sources(found.open(0))) == 16
    for _ in range(2):
        with pytest.raises(DataError, match=r"the first is .*a\.jsonl:21: `output`"):
            found.open(1)
    assert not list(found.folder.glob("*.unfinished"))
    assert len(sources(found.open(0))) == 16


def test_a_file_that_changes_under_a_stream(make, path):
    found = make([entry(path)])
    found.open(0)
    with path.open("a") as file:
        file.write("\n")
    with pytest.raises(DataError, match="was written to while it was read"):
        found.open(1)


def test_a_stream_without_rows(make, path):
    with pytest.raises(DataError, match="are left by `skip: 50`"):
        make([entry(path, skip=50)]).open(0)


def test_windows_far_behind_are_let_go_and_made_again(make, path, monkeypatch):
    monkeypatch.setattr(windows, "KEPT", 2)
    found = make([entry(path)], window=4)
    expected = [sources(found.open(number)) for number in range(9)]
    found.let_go(8)
    left = sorted(int(one.name[-6:]) for one in found.folder.glob("window-??????"))
    assert left == [6, 7, 8]
    assert sources(found.open(1)) == expected[1]
    last = found.open(13)  # a pass has thirteen: its first comes again
    assert sources(last) == expected[0]
    assert found.n_windows == 13
    found.let_go(12)
    left = {int(one.name[-6:]) for one in found.folder.glob("window-??????")}
    assert left == {0, 1}  # the next two of the next pass


# --- steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
def test_every_row_of_a_pass_once_whatever_the_windows(make, path, packed):
    order = replace(STREAMED, packed=packed, max_steps=200)
    stream = WindowStream(make([entry(path)]), order, ONE)
    seen = Counter()
    for step in range(200):
        rows = stream.rows(step)
        seen.update(rows)
        if sum(seen.values()) >= 150:
            break
    assert len(seen) == 50
    assert max(seen.values()) - min(seen.values()) <= 2
    lengths = [stream.n_tokens(step) for step in range(5)]
    assert lengths == [
        sum(batch.n_tokens for batch in stream.step_batches(step)) for step in range(5)
    ]


def test_a_resumed_stream_goes_on_and_reads_no_window_twice(make, tmp_path, monkeypatch):
    path = write_jsonl(tmp_path / "long.jsonl", alpaca_rows(200))
    whole = everything(WindowStream(make([entry(path)]), STREAMED, ONE))
    assert len(whole) == 12
    opened = []
    real = Windows.open
    monkeypatch.setattr(
        Windows, "open", lambda self, number: opened.append(number) or real(self, number)
    )
    stream = WindowStream(make([entry(path)]), STREAMED, ONE)
    assert everything(stream, 9) == whole[9:]
    assert 0 not in opened  # its lengths are known, its rows are not asked for
    shutil.rmtree(stream._windows.folder)
    assert everything(WindowStream(make([entry(path)]), STREAMED, ONE), 9) == whole[9:]


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_what_one_rank_runs(make, path, ranks):
    found = make([entry(path)])
    alone = WindowStream(found, replace(STREAMED, accumulation=4), ONE)
    order = replace(STREAMED, accumulation=4 // ranks)
    shared = [WindowStream(found, order, mesh_of(rank, ranks)) for rank in range(ranks)]
    for step in range(12):
        batches = [batch for stream in shared for batch in stream.step_batches(step)]
        by_index = {batch.index: contents(batch) for batch in batches}
        assert by_index == {b.index: contents(b) for b in alone.step_batches(step)}
        assert {math.fsum(stream.weights(step).values()) for stream in shared} == {
            alone.weights(step)["tokens"]
        }


def test_weights_are_those_of_the_batches(make, path):
    stream = WindowStream(make([entry(path)]), STREAMED, ONE)
    for step in range(6):
        total = sum(float(b.targets["weights"].sum()) for b in stream.step_batches(step))
        assert stream.weights(step) == {"tokens": total}
        assert sorted(stream.rows(step)) == sorted(documents(stream.step_batches(step)))


def test_passes_are_shuffled_differently_and_without_a_shuffle_keep_their_order(make, path):
    found = make([entry(path)], window=100)
    order = replace(STREAMED, packed=False, max_steps=50, accumulation=10)
    stream = WindowStream(found, order, ONE)
    passes = [
        [row for step in range(5 * n, 5 * n + 5) for row in stream.rows(step)] for n in (0, 1)
    ]
    assert sorted(passes[0]) == sorted(passes[1]) == sorted(sources(found.open(0)))
    assert passes[0] != passes[1]
    plain = WindowStream(found, replace(order, shuffle=False), ONE)
    assert [row for step in range(5) for row in plain.rows(step)] == sources(found.open(0))


def test_a_stream_needs_steps_and_something_to_train_on(make, tmp_path):
    rows = [{"instruction": "a", "input": "", "output": "x" * 900}] * 40
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    found = make([entry(path)], window=4)
    with pytest.raises(ConfigError, match="no known end"):
        WindowStream(found, replace(STREAMED, max_steps=None), ONE)
    with pytest.raises(DataError, match=f"{live._EMPTY_WINDOWS} windows of the stream"):
        WindowStream(found, STREAMED, ONE).step_batches(0)


def test_the_account_of_a_run_is_that_of_the_windows_it_read(make, tmp_path):
    rows = [*alpaca_rows(49), {"instruction": "a", "input": "", "output": "x" * 900}]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    found = make([entry(path)], window=8)
    stream = WindowStream(found, replace(STREAMED, packed=False), ONE)
    assert stream.ledger(0).accounts[0].rows_in == 0
    assert stream.ledger(1).accounts[0].rows_in == 8
    assert stream.ledger(5).accounts[0].rows_in == 16  # ten rows, the last two of the second window
    found.let_go(100)
    whole = WindowStream(found, replace(STREAMED, max_steps=60), ONE).ledger(60).accounts[0]
    assert whole.rows_in == 50
    assert whole.rows_dropped == {"longer than sequence_len (512)": 1}


def test_files_of_a_folder_that_are_not_read_are_noted_once(make, tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", alpaca_rows(9))
    write_jsonl(folder / "extra.jsonl", alpaca_rows(9))
    found = make([entry(folder)], window=4)
    assert [sorted(found.open(number)[1].lint) for number in range(2)] == [["left-out-files"], []]
