import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.catalog import TABLES
from tunesmith.errors import ConfigError, TunesmithError
from tunesmith.registry import (
    KINDS,
    Registry,
    at_most_suggestions,
    distance,
    nearest,
    registry,
    resolve,
)

words = st.text(alphabet="abc", max_size=6)


@pytest.mark.parametrize(
    ("left", "right", "count"),
    [
        ("", "", 0),
        ("a", "", 1),
        ("ab", "ba", 1),
        ("abc", "axc", 1),
        ("abc", "abcd", 1),
        ("kitten", "sitting", 3),
        ("abcd", "badc", 2),
    ],
)
def test_distance_counts_edits_and_swaps(left, right, count):
    assert distance(left, right) == count


@given(words, words)
def test_distance_is_symmetric_and_zero_only_for_equals(left, right):
    assert distance(left, right) == distance(right, left)
    assert (distance(left, right) == 0) == (left == right)
    assert abs(len(left) - len(right)) <= distance(left, right) <= max(len(left), len(right))


@given(words, words, st.integers(0, 6))
def test_a_limit_changes_nothing_below_it(left, right, limit):
    whole, limited = distance(left, right), distance(left, right, limit)
    assert limited == whole if whole <= limit else limited > limit


@pytest.mark.parametrize(
    ("name", "meant"),
    [("Lora-R", "lora_r"), ("lora_rr", "lora_r"), ("lorar", "lora_r"), ("zzz", None), ("", None)],
)
def test_the_nearest_name(name, meant):
    assert nearest(name, ["lora_alpha", "lora_r"]) == meant


def test_of_two_as_near_the_first_wins():
    assert nearest("ac", ["ab", "ad"]) == "ab"
    assert nearest("ac", ["ad", "ab"]) == "ad"


def test_a_name_is_loaded_when_asked_for():
    names = Registry("thing", {"path": "pathlib:Path"})
    from pathlib import Path

    assert names.load("path") is Path
    assert names.target("path") == "pathlib:Path"
    assert list(names) == ["path"]


def test_a_miss_says_the_nearest_or_all():
    names = Registry("thing", {"cosine": "a:b", "linear": "a:b"})
    with pytest.raises(ConfigError, match="there is no thing `cosin`") as caught:
        names.load("cosin")
    assert caught.value.hint == "did you mean `cosine`?"
    with pytest.raises(ConfigError) as caught:
        names.load("zzzzzz")
    assert caught.value.hint == "one of: cosine, linear"


def test_names_are_not_taken_twice():
    names = Registry("thing", {"a": "x:y"})
    names.add("a", "x:y")
    with pytest.raises(ConfigError, match="already"):
        names.add("a", "x:z")
    with pytest.raises(ConfigError, match="registered as"):
        names.add("b", "no_colon")


def test_late_names_are_asked_for_once_and_only_on_a_miss():
    asked = []

    def late():
        asked.append(1)
        return {"late": "pathlib:Path"}

    names = Registry("thing", {"early": "pathlib:Path"}, late=late)
    assert "early" in names
    assert asked == []
    assert "late" in names
    assert "other" not in names
    assert asked == [1]


@pytest.mark.parametrize("target", ["no_such_module_x:y", "pathlib:NoSuchThing", "pathlib"])
def test_a_string_that_names_nothing_is_an_error(target):
    with pytest.raises(TunesmithError, match="cannot be loaded"):
        resolve(target)


@pytest.mark.parametrize("table", KINDS)
def test_every_table_has_a_registry(table):
    assert set(registry(table)) >= set(TABLES[table])
    assert registry(table) is registry(table)


def test_tables_and_kinds_are_the_same_ones():
    assert set(KINDS) == set(TABLES)


@pytest.mark.parametrize("table", ["optimizers", "schedules"])
def test_every_name_loads_something_callable(table):
    assert all(callable(registry(table).load(name)) for name in TABLES[table])


def test_after_so_many_questions_nothing_is_near():
    with at_most_suggestions(2):
        assert [nearest("lora_alphq", ["lora_alpha"]) for _ in range(3)] == ["lora_alpha"] * 2 + [
            None
        ]
    assert nearest("lora_alphq", ["lora_alpha"]) == "lora_alpha"
