"""Rows that are left out, parts of many, and at most so many; addresses."""

from __future__ import annotations

import gzip
import json

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.data.toys import alpaca_rows, write_jsonl
from tunesmith.config.data import DatasetEntry
from tunesmith.data import remote
from tunesmith.data.selection import Selection
from tunesmith.data.sources import locate, open_rows
from tunesmith.errors import DataError


def rows_of(path, seed=42, **keys):
    entry = DatasetEntry(path=str(path), **keys)
    return [row["instruction"] for _, row in open_rows(entry, 0, locate(entry, seed))]


@given(
    n_rows=st.integers(0, 40),
    skip=st.integers(0, 45),
    shards=st.integers(1, 7),
    most=st.none() | st.integers(1, 50),
    seed=st.integers(0, 5),
)
def test_the_shards_are_all_rows_each_once(n_rows, skip, shards, most, seed):
    parts = [
        list(Selection(skip, part, shards, None, seed).take(lambda: iter(range(n_rows))))
        for part in range(shards)
    ]
    assert sorted(row for part in parts for row in part) == list(range(skip, n_rows))
    assert all(part == sorted(part) for part in parts)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    short = Selection(skip, 0, shards, most, seed).take(lambda: iter(range(n_rows)))
    assert list(short) == parts[0][:most]


def test_a_shard_holds_the_rows_that_datasets_would_take(tmp_path):
    from datasets import Dataset

    path = write_jsonl(tmp_path / "a.jsonl", alpaca_rows(23))
    whole = Dataset.from_list(alpaca_rows(23))
    for part in range(4):
        theirs = whole.shuffle(seed=7).shard(num_shards=4, index=part, contiguous=True)
        ours = rows_of(path, seed=7, shards=4, shards_idx=part)
        assert sorted(ours) == sorted(theirs["instruction"])


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"skip": 5}, "`skip: 5`"),
        ({"split": "train[3:]"}, "`split: train[3:]`"),
        ({"split": "train[:0%]"}, "`split: train[:0%]`"),
        ({"shards": 5, "shards_idx": 4}, "`shards_idx: 4 of shards: 5`"),
        ({"split": "train[1:]", "skip": 2}, "`split: train[1:]`, `skip: 2`"),
    ],
)
def test_an_entry_whose_keys_leave_out_every_row_is_refused(tmp_path, keys, named):
    path = write_jsonl(tmp_path / "a.jsonl", alpaca_rows(3))
    with pytest.raises(DataError) as caught:
        rows_of(path, **keys)
    assert caught.value.message == f"no rows of {path} are left by {named}"


def test_of_the_rows_of_a_split(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", alpaca_rows(20))
    found = rows_of(path, split="train[5:15]", skip=3, max_samples=4)
    assert found == [f"Say {number}." for number in range(8, 12)]
    with pytest.raises(DataError, match="`shards_idx: 3` is none of 3 shards"):
        rows_of(path, shards=3, shards_idx=3)


def test_data_files_by_split(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", alpaca_rows(3))
    write_jsonl(tmp_path / "b.jsonl", alpaca_rows(2, start=10))
    files = {"train": "a.jsonl", "held": ["b.jsonl", "a.jsonl"]}
    assert rows_of(tmp_path, data_files=files) == ["Say 0.", "Say 1.", "Say 2."]
    held = rows_of(tmp_path, data_files=files, split="held[:3]")
    assert held == ["Say 10.", "Say 11.", "Say 0."]
    with pytest.raises(DataError, match="no split `test`") as error:
        rows_of(tmp_path, data_files=files, split="test")
    assert error.value.hint == "`split` can be `held`, `train`"


# --- addresses ------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path, monkeypatch):
    """fsspec's store in memory, which behaves as a bucket does."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    lines = "".join(json.dumps(row) + "\n" for row in alpaca_rows(5))
    system.pipe("/bucket/rows/a.jsonl", lines.encode())
    system.pipe("/bucket/rows/deep/b.jsonl.gz", gzip.compress(lines.encode()))
    yield system
    system.rm("/bucket", recursive=True)


def test_a_file_a_folder_and_a_pattern_at_an_address(store):
    once = [f"Say {number}." for number in range(5)]
    assert rows_of("memory://bucket/rows/a.jsonl") == once
    assert rows_of("memory://bucket/rows") == once * 2
    assert rows_of("memory://bucket/rows/*.jsonl") == once
    assert rows_of("json", data_files="memory://bucket/rows/a.jsonl") == once
    assert rows_of("memory://bucket/rows/a.jsonl", max_samples=2) == once[:2]


def test_a_file_is_copied_once_and_again_when_it_changes(store, monkeypatch):
    copies = []
    get = type(store).get_file
    monkeypatch.setattr(
        type(store),
        "get_file",
        lambda self, *names, **more: copies.append(names) or get(self, *names),
    )
    for _ in range(2):
        rows_of("memory://bucket/rows/a.jsonl")
    assert len(copies) == 1
    store.pipe("/bucket/rows/a.jsonl", (json.dumps(alpaca_rows(1)[0]) + "\n").encode())
    assert rows_of("memory://bucket/rows/a.jsonl") == ["Say 0."]
    assert len(copies) == 2


def test_a_copy_that_fails_is_tried_again_and_leaves_nothing(store, monkeypatch, tmp_path):
    monkeypatch.setattr(remote, "_WAIT_SECONDS", 0.0)
    get, failures = type(store).get_file, [TimeoutError("slow"), ConnectionError("gone")]

    def unsteady(self, *names, **more):
        if failures:
            raise failures.pop()
        return get(self, *names)

    monkeypatch.setattr(type(store), "get_file", unsteady)
    assert len(rows_of("memory://bucket/rows/a.jsonl")) == 5
    failures += [TimeoutError(f"slow {number}") for number in range(9)]
    with pytest.raises(DataError, match=r"memory://bucket/rows cannot be read: slow \d") as error:
        rows_of("memory://bucket/rows")
    assert len(failures) == 9 - remote.ATTEMPTS
    assert error.value.exit_code == 2
    assert not list((tmp_path / "cache").rglob("*.unfinished"))


def test_what_is_not_there(store):
    with pytest.raises(DataError, match="there is no file at memory://bucket/none"):
        rows_of("memory://bucket/none")
    with pytest.raises(DataError, match="what reads s3:// is not installed") as error:
        rows_of("s3://bucket/rows.jsonl")
    assert error.value.hint == "pip install 'tunesmith[s3]'"
    with pytest.raises(DataError, match="nonsense"):
        rows_of("nonsense://bucket/rows.jsonl")


def test_a_name_never_leaves_the_folder_of_its_copy():
    assert remote._inside("/bucket/rows/../../etc/passwd", "/bucket/rows") == "etc/passwd"
    assert remote._inside("https://x.org/rows.jsonl?token=1", "https://x.org") == "rows.jsonl"
    assert remote._inside("https://x.org/", "https://x.org") == "data"
