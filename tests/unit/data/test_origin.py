from __future__ import annotations

import copy
import pickle
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data.origin import (
    UNKNOWN,
    Origin,
    Tracked,
    concatenate,
    follow,
    mark,
    merge_runs,
    plain,
    runs_of,
    spans_of,
)

USER = Origin(0, "content")
ANSWER = Origin(1, "content")

# Each origin has letters of its own: every character of a result says where it must be from.
LETTERS = {USER: "abcABC", ANSWER: "xyzXYZ", None: "01 \n-"}
HOME = {letter: origin for origin, letters in LETTERS.items() for letter in letters}


@st.composite
def tracked_texts(draw: st.DrawFn) -> Tracked:
    parts: list[str] = []
    for origin in draw(st.lists(st.sampled_from(list(LETTERS)), max_size=5)):
        text = draw(st.text(LETTERS[origin], max_size=5))
        parts.append(Tracked(text, home=origin) if origin else text)
    return concatenate(parts)


def assert_right(result: Any, expected: Any) -> None:
    """The same text as the plain string gives, and every character with its letters' origin."""
    if isinstance(expected, str):
        assert plain(result) == expected
        assert sum(length for length, _ in runs_of(result)) == len(expected)
        for start, end, origin in spans_of(result):
            assert {HOME[letter] for letter in expected[start:end]} == {origin}
        return
    if isinstance(expected, Iterable):
        items = list(expected)
        assert len(result) == len(items)
        for left, right in zip(result, items, strict=True):
            assert_right(left, right)
        return
    assert result == expected


SEPARATORS = st.sampled_from([None, " ", "0", "a", "ab", "x", "\n", "- "])


@given(tracked_texts(), SEPARATORS, st.integers(-1, 3))
def test_splitting_keeps_the_origin_of_each_character(
    text: Tracked, sep: str | None, most: int
) -> None:
    bare = plain(text)
    assert_right(text.split(sep, most), bare.split(sep, most))
    assert_right(text.rsplit(sep, most), bare.rsplit(sep, most))
    assert_right(text.splitlines(), bare.splitlines())
    assert_right(text.splitlines(True), bare.splitlines(True))
    if sep:
        assert_right(text.partition(sep), bare.partition(sep))
        assert_right(text.rpartition(sep), bare.rpartition(sep))


@given(tracked_texts(), st.sampled_from([None, " ", "a0", "xy\n", ""]))
def test_stripping_keeps_the_origin_of_each_character(text: Tracked, chars: str | None) -> None:
    bare = plain(text)
    for name in ("strip", "lstrip", "rstrip"):
        assert_right(getattr(text, name)(chars), getattr(bare, name)(chars))
    affix = chars or ""
    assert_right(text.removeprefix(affix), bare.removeprefix(affix))
    assert_right(text.removesuffix(affix), bare.removesuffix(affix))


@given(tracked_texts(), st.integers(-8, 8), st.integers(-8, 8), st.sampled_from([1, 2, -1, -2]))
def test_slices_keep_the_origin_of_each_character(
    text: Tracked, start: int, stop: int, step: int
) -> None:
    bare = plain(text)
    assert_right(text[start:stop:step], bare[start:stop:step])
    assert_right(text[::-1], bare[::-1])
    assert_right(list(text), list(bare))
    if -len(bare) <= start < len(bare):
        assert_right(text[start], bare[start])


@given(tracked_texts(), tracked_texts(), st.sampled_from(["a", "0", " ", "xy"]), st.integers(-1, 2))
def test_joining_and_replacing_keep_the_origin_of_each_character(
    text: Tracked, other: Tracked, old: str, count: int
) -> None:
    bare, bare_other = plain(text), plain(other)
    assert_right(text + other, bare + bare_other)
    assert_right("01" + text, "01" + bare)
    assert_right(text + "01", bare + "01")
    assert_right(text * 2, bare * 2)
    assert_right(text.replace(old, other, count), bare.replace(old, bare_other, count))
    assert_right(other.join([text, "0", text]), bare_other.join([bare, "0", bare]))
    assert_right(Tracked("-").join([text, other]), "-".join([bare, bare_other]))


@given(tracked_texts())
def test_case_changes_keep_the_origin_of_each_character(text: Tracked) -> None:
    for name in ("upper", "lower", "title", "capitalize", "swapcase", "casefold"):
        assert_right(getattr(text, name)(), getattr(plain(text), name)())


@given(tracked_texts())
def test_a_tracked_text_is_its_plain_text_to_everyone_else(text: Tracked) -> None:
    bare = plain(text)
    assert type(bare) is str
    assert text == bare
    assert hash(text) == hash(bare)
    assert {bare: 1}[text] == 1
    assert str(text) is text
    assert f"{text:>9}" == f"{bare:>9}"
    for twin in (copy.deepcopy(text), pickle.loads(pickle.dumps(text))):
        assert runs_of(twin) == runs_of(text)


def test_a_letter_that_grows_in_upper_case_keeps_its_one_origin() -> None:
    text = Tracked("straße", home=USER).upper()
    assert plain(text) == "STRASSE"
    assert runs_of(text) == ((7, USER),)


@pytest.mark.parametrize(
    ("name", "args"),
    [("center", (9,)), ("ljust", (9,)), ("rjust", (9,)), ("zfill", (9,)), ("expandtabs", ())],
)
def test_padding_counts_as_its_one_field(name: str, args: tuple[Any, ...]) -> None:
    result = getattr(Tracked("a\tb", home=USER), name)(*args)
    assert plain(result) == getattr("a\tb", name)(*args)
    assert runs_of(result) == ((len(result), USER),)


def test_what_is_not_followed_has_one_origin_or_is_unknown() -> None:
    one, two = Tracked("a", home=USER), Tracked("x", home=ANSWER)
    assert runs_of(follow("made", (one, "0"))) == ((4, USER),)
    assert runs_of(follow("made", (one, two))) == ((4, UNKNOWN),)
    assert runs_of(follow("made", ({"key": [two]},))) == ((4, ANSWER),)
    assert runs_of(Tracked("%s!") % one) == ((2, UNKNOWN),)
    assert runs_of(one.replace("", "-")) == ((3, USER),)
    assert follow("made", ("0", 1)) == "made"
    assert [runs_of(part) for part in follow(["m", "n"], (one,))] == [((1, USER),), ((1, USER),)]


def test_an_empty_field_still_marks_what_is_made_of_it() -> None:
    empty = mark("", USER)
    assert runs_of(empty) == ()
    assert runs_of(follow("none", (empty,))) == ((4, USER),)


def test_mark_copies_plain_data_and_hides_live_objects() -> None:
    class Alive:
        pass

    data = {"text": "hi", "n": 3, "ok": True, "none": None, "list": ["a", 1.5], "alive": Alive()}
    marked = mark(data, USER)
    assert marked == {**data, "alive": "<Alive>"}
    assert runs_of(marked["text"]) == ((2, USER),)
    assert runs_of(marked["list"][0]) == ((1, USER),)
    assert all(runs_of(key) == ((len(key), USER),) for key in marked)
    marked["list"].append("more")
    assert data["list"] == ["a", 1.5]


def test_runs_are_merged_and_empty_ones_left_out() -> None:
    runs = [(1, USER), (0, ANSWER), (2, USER), (3, None), (1, None)]
    assert merge_runs(runs) == ((3, USER), (4, None))


def test_joining_what_is_no_text_is_the_error_of_plain_strings() -> None:
    with pytest.raises(TypeError):
        Tracked(" ").join(["a", 3])  # type: ignore[list-item]
