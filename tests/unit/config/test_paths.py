"""``PathTable`` says what a walk through all of its paths would say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunesmith.config.paths import PathTable

PATHS = st.lists(st.sampled_from(["a", "b", 0, 1, 2]), max_size=4).map(tuple)
TABLES = st.dictionaries(PATHS, st.integers())


def under(found: dict, path: tuple) -> dict:
    return {p[len(path) :]: value for p, value in found.items() if p[: len(path)] == path}


@given(TABLES, PATHS)
def test_what_lies_below_a_path_is_found(found, path):
    assert PathTable(found).below(path) == under(found, path)


@given(TABLES, PATHS, PATHS)
def test_what_is_taken_is_gone_and_can_be_put_elsewhere(found, path, other):
    table = PathTable(found)
    taken = table.take(path)
    left = {p: value for p, value in found.items() if p[: len(path)] != path}
    assert taken == under(found, path)
    assert table == left
    table.graft(other, taken)
    moved = left | {(*other, *rest): value for rest, value in taken.items()}
    assert table == moved
    assert table.below(other) == under(moved, other)


@given(TABLES, PATHS)
def test_a_single_path_is_deleted_alone(found, path):
    table = PathTable(found | {path: 1})
    del table[path]
    left = {p: value for p, value in found.items() if p != path}
    assert table == left
    assert table.below(()) == left


def test_items_behind_one_that_goes_move_up():
    table = PathTable({("a",): 0, ("a", 0): 1, ("a", 1): 2, ("a", 2): 3, ("a", 2, "b"): 4})
    table.move_up(("a",), 1)
    assert table == {("a",): 0, ("a", 0): 1, ("a", 1): 3, ("a", 1, "b"): 4}
    table.move_up(("a",), 0)
    assert table == {("a",): 0, ("a", 0): 3, ("a", 0, "b"): 4}
    table.move_up(("a",), 0)
    assert table == {("a",): 0}
