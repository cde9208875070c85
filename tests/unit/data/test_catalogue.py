"""What lies in the cache, why something is not found in it, and what is cleared away."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import time

import pytest

from tests.unit.data import toys
from tests.unit.data.toys import alpaca_rows, request, write_jsonl
from tunesmith.config.data import DataSection, DatasetEntry
from tunesmith.data.catalogue import Limits, collect, entries, recipes, verify
from tunesmith.data.prepare import find, prepare, whole_recipe_of
from tunesmith.data.recipes import differences, find_nearest
from tunesmith.data.windows import StreamRequest, Windows

DAY = 86_400.0


def entry(path, **keys):
    return DatasetEntry(path=str(path), type="alpaca", **keys)


@pytest.fixture
def home(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", alpaca_rows(30))
    write_jsonl(tmp_path / "b.jsonl", alpaca_rows(20, start=100))
    return tmp_path


def asked(home, *names, **keys):
    return request([entry(home / f"{name}.jsonl") for name in names], home, **keys)


def kinds(found):
    return sorted(one.kind for one in found)


def age(found, days):
    """Make entries look as if they were not used for so many days."""
    then = time.time() - days * DAY
    for one in found:
        for path in (one.path, *one.path.glob("*.json")):
            os.utime(path, (then, then))


# --- stages ---------------------------------------------------------------------------------------


def test_a_data_set_is_rendered_once_whatever_stands_beside_it(home):
    prepare(asked(home, "a"))
    prepare(asked(home, "a", "b"))
    prepare(asked(home, "b", "a", data={"val_set_size": 0.1}))
    cache = home / "cache"
    assert kinds(entries(cache)) == ["prepared"] * 3 + ["set"] * 2
    weighted = DataSection(datasets=(entry(home / "a.jsonl", weight=2.0, repeats=3.0),))
    assert prepare(dataclasses.replace(asked(home, "a"), data=weighted)).from_cache


def test_entries_tell_what_they_are(home):
    prepare(asked(home, "a", "b"))
    (prepared,) = [one for one in entries(home / "cache") if one.kind == "prepared"]
    assert prepared.names == (str(home / "a.jsonl"), str(home / "b.jsonl"))
    sets = [one for one in entries(home / "cache") if one.kind == "set"]
    assert sorted(prepared.needs) == sorted(one.key for one in sets)
    assert all(one.is_whole and one.size > 1000 for one in (prepared, *sets))
    assert entries(home / "nowhere") == []


# --- why ------------------------------------------------------------------------------------------


def told(before, now):
    return [str(one) for one in differences(whole_recipe_of(before), whole_recipe_of(now))]


def test_each_change_is_named(home):
    path = home / "a.jsonl"
    made = asked(home, "a", data={"val_set_size": 0.2})
    toy = made.settings[0]
    replace = dataclasses.replace
    other_template = toys.settings(home / "tokenizer", template=toys.TEMPLATE + " ")

    def settings(one):
        return told(made, replace(made, settings=(one,)))

    (line,) = settings(other_template)
    assert line.startswith(f"{path}: the chat template's text: ")
    (line,) = settings(replace(toy, tokenizer_digest="new"))
    assert line == f"{path}: the tokenizer: toy -> new"
    assert settings(replace(toy, eos_text="</s>")) == [f"{path}: eos_text: <|end|> -> </s>"]
    assert told(made, replace(made, seed=8)) == ["seed: 7 -> 8"]
    assert told(made, replace(made, weigh_version="2")) == [
        f"{path}: the objective's weights: 1 -> 2"
    ]
    longer = asked(home, "a", data={"val_set_size": 0.2}, packing={"sequence_len": 600})
    assert told(made, longer) == [f"{path}: sequence_len: 512 -> 600"]
    kept = whole_recipe_of(made)
    path.write_bytes(path.read_bytes().replace(b"Say 7.", b"Say 8."))
    (line,) = [str(one) for one in differences(kept, whole_recipe_of(made))]
    assert line.startswith(f"{path}: the bytes of {path}: ")


def test_a_change_of_the_code_is_named(home, monkeypatch):
    before = whole_recipe_of(asked(home, "a"))
    monkeypatch.setattr("tunesmith.data.fingerprint.code_digest", lambda: "new")
    (line,) = [str(one) for one in differences(before, whole_recipe_of(asked(home, "a")))]
    assert line.startswith(f"{home / 'a.jsonl'}: tunesmith's own code: ")


def test_a_data_set_that_came_or_went(home):
    added = told(asked(home, "a"), asked(home, "a", "b"))
    assert added == [f"data set: {home / 'b.jsonl'} is new"]
    removed = told(asked(home, "a", "b"), asked(home, "a"))
    assert removed == [f"data set: {home / 'b.jsonl'} is gone"]


def test_the_nearest_has_the_fewest_differences(home):
    prepare(asked(home, "a"))
    near = prepare(asked(home, "a", data={"val_set_size": 0.2}))
    prepare(asked(home, "b"))
    wanted = asked(home, "a", data={"val_set_size": 0.3})
    assert find(wanted) is None
    found = find_nearest(recipes(home / "cache", "prepared"), whole_recipe_of(wanted))
    assert found.key == near.fingerprint
    assert [str(one) for one in found.differences] == ["val_set_size: 0.2 -> 0.3"]
    assert find_nearest({}, whole_recipe_of(wanted)) is None


# --- clearing -------------------------------------------------------------------------------------


def test_only_garbage_goes_without_limits(home):
    cache = home / "cache"
    prepare(asked(home, "a"))
    (cache / "sets" / "dead.unfinished").mkdir()
    (cache / "dead.unfinished").mkdir()
    old = cache / "01234"
    old.mkdir()
    (old / "prepared.json").write_text('{"layout": 1, "files": {}}')
    before = {one.key for one in entries(cache) if one.is_whole}
    planned = collect(cache, Limits(), time.time(), dry_run=True)
    assert sorted(one.path.name for one in planned) == ["01234"] + ["dead.unfinished"] * 2
    assert len(entries(cache)) == 5
    assert collect(cache, Limits(), time.time()) == planned
    assert {one.key for one in entries(cache)} == before
    assert prepare(asked(home, "a")).from_cache


def test_a_rendered_set_that_nothing_names_goes_after_a_day(home):
    cache = home / "cache"
    made = prepare(asked(home, "a"))
    for path in made.path.iterdir():
        path.unlink()
    made.path.rmdir()
    assert collect(cache, Limits(), time.time()) == []
    age(entries(cache), 2)
    assert kinds(collect(cache, Limits(), time.time())) == ["set"]
    assert entries(cache) == []


def test_what_was_not_used_for_long_goes_with_all_that_needs_it(home):
    cache = home / "cache"
    prepare(asked(home, "a"))
    age(entries(cache), 40)
    prepare(asked(home, "b"))
    assert kinds(collect(cache, Limits(age=50 * DAY), time.time())) == []
    gone = collect(cache, Limits(age=30 * DAY), time.time())
    assert kinds(gone) == ["prepared", "set"]
    assert {name for one in gone for name in one.names} == {str(home / "a.jsonl")}
    assert prepare(asked(home, "b")).from_cache
    prepare(asked(home, "a", "b"))
    (oldest,) = [
        one for one in entries(cache) if one.names == (str(home / "b.jsonl"),) and one.kind == "set"
    ]
    age([oldest], 40)
    gone = collect(cache, Limits(age=30 * DAY), time.time())
    assert kinds(gone) == ["prepared", "prepared", "set"]
    assert verify(cache) == []


def test_the_longest_unused_goes_until_the_rest_fits(home):
    cache = home / "cache"
    prepare(asked(home, "a"))
    age(entries(cache), 3)
    prepare(asked(home, "b"))
    sizes = {one.key: one.size for one in entries(cache)}
    recent = sum(one.size for one in entries(cache) if one.names == (str(home / "b.jsonl"),))
    gone = collect(cache, Limits(size=recent), time.time())
    assert sum(sizes.values()) - sum(one.size for one in gone) == recent
    assert prepare(asked(home, "b")).from_cache
    assert len(collect(cache, Limits(size=0), time.time())) == 2
    assert entries(cache) == []


def test_what_is_being_built_stays(home):
    cache = home / "cache"
    prepare(asked(home, "a"))
    unfinished = cache / "sets" / "busy.unfinished"
    unfinished.mkdir()
    with (cache / "sets" / "busy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert collect(cache, Limits(), time.time()) == []
    assert collect(cache, Limits(), time.time())[0].path == unfinished


def test_streams_are_listed_verified_and_cleared(home):
    cache = home / "cache"
    found = Windows(StreamRequest(asked(home, "a"), 10))
    found.open(0)
    found.close()
    (stream,) = entries(cache)
    assert (stream.kind, stream.names) == ("stream", (str(home / "a.jsonl"),))
    assert verify(cache) == []
    path = next(found.folder.rglob("samples.arrow"))
    path.write_bytes(path.read_bytes()[:-9] + b"123456789")
    assert verify(cache) == [path]
    assert len(found.open(0)[0]) == 10
    assert verify(cache) == []
    age(entries(cache), 9)
    assert kinds(collect(cache, Limits(age=8 * DAY), time.time())) == ["stream"]
    assert entries(cache) == []


def test_one_flipped_bit_is_found(home):
    prepare(asked(home, "a"))
    cache = home / "cache"
    for path in sorted(cache.rglob("*")):
        if path.is_file() and path.suffix != ".lock":
            whole = path.read_bytes()
            path.write_bytes(whole[:50] + bytes([whole[50] ^ 4]) + whole[51:])
            assert path in verify(cache) or not all(one.is_whole for one in entries(cache)), path
            path.write_bytes(whole)
    assert verify(cache) == []
