import multiprocessing
import os
import pickle
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data import cache
from tunesmith.data.cache import PreparedSplit, SampleWriter
from tunesmith.data.facts import PREPARED, SHARD, damaged, read_facts, write_facts
from tunesmith.data.samples import TokenSample
from tunesmith.data.store import build_once
from tunesmith.errors import DataError, TunesmithError


def write(folder, samples, order=None, shard=10**9):
    """A prepared folder of shards of so many samples; the first is a data set of its own."""
    shards = []
    for start in range(0, len(samples), shard):
        name = f"shard-{len(shards)}"
        (folder / name).mkdir()
        writer = SampleWriter(folder / name)
        for one in samples[start : start + shard]:
            writer.add(one, {"tokens": one.total_weight, "pairs": 0.1 * len(one)})
        writer.close()
        write_facts(folder / name, SHARD, writer.facts())
        shards.append(name)
    numbers = range(len(samples)) if order is None else order
    np.save(folder / "train.npy", np.array(numbers, dtype=np.int64))
    facts = {"shards": shards, "totals": ["tokens", "pairs"], "datasets": [0, shard]}
    write_facts(folder, PREPARED, {**facts, "splits": {"train": "content"}})


def sample(length, runs=(), source="f:1"):
    return TokenSample(np.arange(length, dtype=np.int32) * 7 % 50_000, tuple(runs), source)


@st.composite
def random_samples(draw):
    length = draw(st.integers(0, 30))
    borders = sorted(draw(st.sets(st.integers(1, max(length, 1)), max_size=6)))
    pairs = zip(borders[::2], borders[1::2], strict=False)
    weights = st.floats(0.001, 1e6)
    runs = [(begin, end, draw(weights)) for begin, end in pairs if end <= length]
    return sample(length, runs, draw(st.text(min_size=1).filter(str.isprintable)))


@settings(deadline=None)  # the machine may be busy
@given(
    samples=st.lists(random_samples(), min_size=1, max_size=30),
    batch=st.integers(1, 7),
    shard=st.integers(1, 31),
)
def test_what_was_written_is_read_in_any_order(tmp_path_factory, samples, batch, shard):
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "_SAMPLES_A_BATCH", batch)
        write(folder, samples, shard=shard)
    split = PreparedSplit(folder, "train")
    assert split.datasets.tolist() == [int(number >= shard) for number in range(len(samples))]
    assert len(split) == len(samples)
    for number in reversed(range(len(samples))):
        found, expected = split[number], samples[number]
        assert found.input_ids.dtype == np.int32
        np.testing.assert_array_equal(found.input_ids, expected.input_ids)
        assert found.runs == expected.runs
        assert found.source == expected.source
    assert split.lengths.dtype == np.int32
    assert split.lengths.tolist() == [len(one) for one in samples]
    assert split.totals["tokens"].tolist() == [one.total_weight for one in samples]
    assert split.totals["pairs"].tolist() == [0.1 * len(one) for one in samples]


def test_a_split_is_a_choice_of_the_samples_and_pickles_as_a_path(tmp_path):
    samples = [sample(n + 1, [(1, n + 1, 1.0)] if n else []) for n in range(9)]
    write(tmp_path, samples, order=[7, 2, 2])
    split = PreparedSplit(tmp_path, "train")
    packed = pickle.dumps(split)
    assert len(packed) < 300
    for one in (split, pickle.loads(packed)):
        assert one.lengths.tolist() == [8, 3, 3]
        assert one.totals["tokens"].tolist() == [7.0, 2.0, 2.0]
        assert [len(one[n]) for n in range(3)] == [8, 3, 3]
        assert one.fingerprint == "content"
        assert len(one[-1]) == 3
    with pytest.raises(IndexError):
        split[3]


def test_large_batches_are_cut_by_tokens(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_TOKENS_A_BATCH", 100)
    write(tmp_path, [sample(60)] * 10)
    assert len(read_facts(tmp_path / "shard-0", SHARD)["batches"]) == 5


def test_equal_samples_are_equal_bytes(tmp_path):
    samples = [sample(n + 2, [(1, n + 2, 1.0)], f"f:{n}") for n in range(50)]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, samples)
    files = [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) == 6
    for path in files:
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.read_bytes() == other.read_bytes(), path.name


def test_a_damaged_folder_is_not_used(tmp_path):
    write(tmp_path, [sample(5)])
    shard = tmp_path / "shard-0"
    assert read_facts(shard, SHARD) is not None
    assert damaged(shard, SHARD) == []
    samples = shard / "samples.arrow"
    whole = samples.read_bytes()
    samples.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert read_facts(shard, SHARD) is not None  # as large as it was
    assert damaged(shard, SHARD) == [samples]
    samples.write_bytes(whole[:-1])
    assert read_facts(shard, SHARD) is None
    with pytest.raises(DataError, match="holds no prepared `samples` data"):
        PreparedSplit(tmp_path, "train")
    samples.write_bytes(whole)
    with pytest.raises(DataError, match="holds no prepared `other` data"):
        PreparedSplit(tmp_path, "other")
    (tmp_path / "prepared.json").write_text("{")
    assert read_facts(tmp_path, PREPARED) is None
    with pytest.raises(DataError, match="holds no prepared `train` data"):
        PreparedSplit(tmp_path, "train")


def test_every_sample_has_the_same_totals(tmp_path):
    writer = SampleWriter(tmp_path)
    writer.add(sample(3), {"tokens": 1.0})
    with pytest.raises(TunesmithError, match="pairs"):
        writer.add(sample(3), {"pairs": 1.0})


# --- one builder ----------------------------------------------------------------------------------

_PROCESSES = multiprocessing.get_context("spawn")


def is_whole(folder: Path) -> bool:
    return (folder / "whole").exists()


def build_slowly(folder: Path, log: Path) -> None:
    """Build in half a second and say that it was done."""

    def build(unfinished: Path) -> None:
        (unfinished / "part").write_text("x")
        with log.open("a") as file:
            file.write(f"started {os.getpid()}\n")
        time.sleep(0.5)
        (unfinished / "whole").write_text("x")

    build_once(folder, is_whole, build, waiting=lambda: log.with_suffix(".waited").touch())


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.01)


def test_two_processes_build_once(tmp_path):
    arguments = (tmp_path / "built", tmp_path / "log")
    processes = [_PROCESSES.Process(target=build_slowly, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert (tmp_path / "log").read_text().count("started") == 1
    assert is_whole(tmp_path / "built")
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_build_that_is_killed_leaves_nothing_that_is_used(tmp_path):
    folder, log = tmp_path / "built", tmp_path / "log"
    process = _PROCESSES.Process(target=build_slowly, args=(folder, log))
    process.start()
    wait_for(log)
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    assert (tmp_path / "built.unfinished" / "part").exists()
    assert not folder.exists()
    build_slowly(folder, log)  # neither the lock nor the remains are in the way
    assert sorted(path.name for path in folder.iterdir()) == ["part", "whole"]
    assert not (tmp_path / "built.unfinished").exists()
    assert not log.with_suffix(".waited").exists()


def test_a_build_that_fails_leaves_nothing(tmp_path):
    def build(unfinished):
        (unfinished / "part").write_text("x")
        raise DataError("no", hint="yes")

    with pytest.raises(DataError):
        build_once(tmp_path / "built", is_whole, build, waiting=lambda: None)
    assert [path.name for path in tmp_path.iterdir()] == ["built.lock"]


def test_what_a_cut_off_build_left_is_handed_on_where_the_build_resumes(tmp_path):
    def build(unfinished):
        (unfinished / "whole").write_text("".join(path.name for path in unfinished.iterdir()))
        if not (unfinished / "part").exists():
            (unfinished / "part").write_text("x")
            raise error

    folder = tmp_path / "built"
    for error in (OSError("disk"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            build_once(folder, is_whole, build, waiting=lambda: None, resumes=True)
        assert not folder.exists()
        assert not build_once(folder, is_whole, build, waiting=lambda: None, resumes=True)
        assert "part" in (folder / "whole").read_text()
        shutil.rmtree(folder)
    error = DataError("no", hint="yes")
    with pytest.raises(DataError):
        build_once(folder, is_whole, build, waiting=lambda: None, resumes=True)
    assert [path.name for path in tmp_path.iterdir()] == ["built.lock"]


def test_a_folder_that_is_not_whole_is_built_anew(tmp_path):
    folder = tmp_path / "built"
    folder.mkdir()
    (folder / "old").write_text("x")
    build_slowly(folder, tmp_path / "log")
    assert sorted(path.name for path in folder.iterdir()) == ["part", "whole"]
