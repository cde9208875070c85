import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.config.splice import Text, block_lines, written
from tunesmith.config.tree import read_tree

DOCUMENT = """\
# head

a: 1   # one
b:
    c: 'x'   # cc

    # inner
    d: |
      text
      more

# after
e: [1, "2",
    3]
f:
g: &g {p: 1, q: 2}
h: *g
j:
- path: u   # first
  # between
  type: v
- type: w
"""


def edited(edit: str, *arguments: object, text: str = DOCUMENT) -> str:
    document = Text(text)
    getattr(document, edit)(*arguments)
    return document.text


def lines(text: str) -> set[str]:
    return set(text.splitlines())


def test_every_value_is_found_where_it_stands():
    document = Text(DOCUMENT)
    found = {
        ("a",): "1",
        ("b", "c"): "'x'",
        ("b", "d"): "|\n      text\n      more",
        ("e", 1): '"2"',
        ("f",): "",
        ("g", "q"): "2",
        ("h",): "*g",
        ("j", 0, "type"): "v",
        ("j", 1): "type: w",
    }
    for path, raw in found.items():
        span = document.find(path)
        assert span is not None
        assert document.raw(span) == raw
    assert document.find(("b", "nothing")) is None
    assert document.find(("h", "p")) is None, "an alias has nothing of its own"
    assert document.find(("e", 9)) is None


@pytest.mark.parametrize(
    ("path", "new", "line"),
    [
        (("a",), "z", "z: 1   # one"),
        (("b", "c"), "z", "    z: 'x'   # cc"),
        (("g", "p"), "z", "g: &g {z: 1, q: 2}"),
        (("j", 0, "path"), "z", "- z: u   # first"),
    ],
)
def test_a_renamed_key_changes_its_own_word_only(path, new, line):
    after = edited("rename", path, new)
    assert lines(after) - lines(DOCUMENT) == {line}
    assert len(after.splitlines()) == len(DOCUMENT.splitlines())


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (("a",), 2, "a: 2   # one"),
        (("f",), "x", "f: x"),
        (("e", 1), 9, "e: [1, 9,"),
        (("j", 0, "type"), "z", "  type: z"),
    ],
)
def test_a_changed_value_keeps_what_stands_around_it(path, value, line):
    assert lines(edited("change", path, value)) - lines(DOCUMENT) == {line}


@pytest.mark.parametrize(
    ("path", "gone", "come"),
    [
        (("a",), {"a: 1   # one"}, {"# one"}),
        (("b", "c"), {"    c: 'x'   # cc"}, {"    # cc"}),
        (("b", "d"), {"    d: |", "      text", "      more"}, set()),
        (("e",), {'e: [1, "2",', "    3]"}, set()),
        (("f",), {"f:"}, set()),
        (("g", "p"), {"g: &g {p: 1, q: 2}"}, {"g: &g {q: 2}"}),
        (("g", "q"), {"g: &g {p: 1, q: 2}"}, {"g: &g {p: 1}"}),
        (("e", 0), {'e: [1, "2",'}, {'e: ["2",'}),
        (("j", 1), {"- type: w"}, set()),
        (("j", 0, "type"), {"  type: v"}, set()),
        (
            ("j", 0, "path"),
            {"- path: u   # first", "  # between", "  type: v"},
            {"# first", "# between", "- type: v"},
        ),
    ],
)
def test_what_is_removed_leaves_its_comments_and_all_else(path, gone, come):
    after = edited("remove", path)
    assert lines(DOCUMENT) - lines(after) == gone
    assert lines(after) - lines(DOCUMENT) == come
    assert not read_tree(after, "after").problems


def test_the_only_key_of_an_item_leaves_an_empty_mapping():
    assert "- {}\n" in edited("remove", ("j", 1, "type"))


def test_keys_are_added_in_the_form_of_their_mapping():
    assert lines(edited("add", ("b",), {"n": {"o": 1}})) - lines(DOCUMENT) == {
        "    n:",
        "      o: 1",
    }
    assert "g: &g {p: 1, q: 2, n: {o: 1}}\n" in edited("add", ("g",), {"n": {"o": 1}})
    assert "type: v\n  n: 1\n- type: w" in edited("add_after", ("j", 0, "type"), {"n": 1})
    with pytest.raises(LookupError):
        edited("add", ("f",), {"n": 1})


def test_keys_in_the_place_of_another_keep_words_that_are_given():
    after = edited("put_instead", ("b", "c"), {"n": {"c": "x"}}, {"c": "'x'"})
    assert "b:\n    n:\n      c: 'x'   # cc\n" in after
    assert "{n: 1, m: 2, q: 2}" in edited("put_instead", ("g", "p"), {"n": 1, "m": 2}, {})


def test_a_mapping_becomes_the_one_item_of_a_list():
    after = edited("wrap", ("b",))
    assert "b:\n    - c: 'x'   # cc\n\n      # inner\n      d: |\n        text\n" in after
    assert read_tree(after, "x").values["b"] == [read_tree(DOCUMENT, "x").values["b"]]
    assert "g: [&g {p: 1, q: 2}]" in edited("wrap", ("g",))


def test_line_ends_of_windows_stay():
    text = DOCUMENT.replace("\n", "\r\n")
    for after in (
        edited("remove", ("a",), text=text),
        edited("add", ("b",), {"n": 1}, text=text),
        edited("put_instead", ("a",), {"n": 1, "m": 2}, {}, text=text),
    ):
        assert after.count("\n") == after.count("\r\n")
        assert not read_tree(after, "after").problems


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_what_is_written_is_read_back(value):
    tree = read_tree(f"key: {written(value)}", "x")
    assert not tree.problems
    assert tree.values == {"key": value}
    assert read_tree("\n".join(block_lines({"key": value})), "x").values == {"key": value}
