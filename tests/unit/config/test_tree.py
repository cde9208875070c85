import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.config.tree import MAX_BYTES, MAX_DEPTH, Place, decode, read_tree, scalar


def problem(text: str):
    (found,) = read_tree(text, "run.yaml").problems
    return found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1e4", 10000.0),
        ("2.5E+3", 2500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("10_000", 10000),
        ("-3", -3),
        ("0x1f", 31),
        ("0o17", 15),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("yes", "yes"),
        ("2024-01-01", "2024-01-01"),
        ("12:30:45", "12:30:45"),
        ("1.2.3", "1.2.3"),
        ("e5", "e5"),
        ("._", "._"),
        ("1__0", 10),
        ("nan", "nan"),
    ],
)
def test_scalars_are_those_of_yaml_1_2_and_what_people_write(text, value):
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


@given(st.text(max_size=30))
def test_any_text_is_some_scalar(text):
    scalar(text)


def test_values_know_their_line_and_column():
    tree = read_tree("a: 1\nb:\n  - path: x\n    type: y\n", "run.yaml")
    assert tree.values == {"a": 1, "b": [{"path": "x", "type": "y"}]}
    assert tree.places["a",] == Place("run.yaml", 1, 1)
    assert tree.places["b", 0] == Place("run.yaml", 3, 5)
    assert tree.places["b", 0, "type"] == Place("run.yaml", 4, 5)
    assert str(tree.places["b", 0, "type"]) == "run.yaml:4:5"


def test_old_and_quoted_booleans_are_remembered():
    tree = read_tree("a: yes\nb: 'yes'\nc: [Off]\nd: \"True\"\ne: true\n", "run.yaml")
    assert tree.values == {"a": "yes", "b": "yes", "c": ["Off"], "d": "True", "e": True}
    assert tree.old_booleans == {("a",): True, ("b",): True, ("c", 0): False, ("d",): True}


def test_aliases_are_copies_and_merge_keys_give_way():
    tree = read_tree("a: &a {x: 1, y: [2]}\nb:\n  <<: *a\n  x: 3\nc: *a\n", "run.yaml")
    assert tree.values["b"] == {"x": 3, "y": [2]}
    tree.values["c"]["y"].append(9)
    assert tree.values["a"]["y"] == [2]


@pytest.mark.parametrize(
    ("text", "words", "line", "column"),
    [
        ("a: 1\nb: 2\na: 3\n", "second time (first in line 1)", 3, 1),
        ("a:\n\tb: 1\n", "a tab cannot indent YAML", 2, 1),
        ("a: !!python/object/apply:os.system [x]\n", "is not read", 1, 4),
        ("a: !include b.yaml\n", "tag `!include`", 1, 4),
        ("a: [1\nb: 2\n", "expected ',' or ']'", 2, 2),
        ("a: b: c\n", "mapping values are not allowed here", 1, 5),
        ("a: *nowhere\n", "names no earlier anchor", 1, 4),
        ("a: &a [*a]\n", "names no earlier anchor", 1, 8),
        ("a: 1\n---\nb: 2\n", "a second document", 2, 1),
        ("? [a]\n: 1\n", "a key must be a word", 1, 3),
        ("a: '\n", "found unexpected end of stream", 2, 1),
        ("a: 1\n<<: 3\n", "`<<` takes a mapping", 2, 1),
        ("a: " + "[" * (MAX_DEPTH + 1), f"nested more than {MAX_DEPTH} deep", 1, 3 + MAX_DEPTH + 1),
    ],
)
def test_bad_yaml_is_a_problem_with_its_place(text, words, line, column):
    found = problem(text)
    assert (found.code, found.line, found.column) == ("yaml", line, column)
    assert words in found.message
    assert found.fix


def test_an_alias_bomb_is_refused_before_it_grows():
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdefghi", "bcdefghij", strict=True):
        lines.append(f"{name}: &{name} [{', '.join(['*' + before] * 10)}]")
    assert "more than 10,000 values" in problem("\n".join(lines)).message


def test_bytes_that_are_no_text_have_a_place():
    found = decode(b"a: 1\nbb: \xff\n", "run.yaml")
    assert (found.code, found.line, found.column) == ("yaml", 2, 5)
    assert found.message == "byte 0xff is not UTF-8"
    assert decode("a: 1\n".encode("utf-16"), "run.yaml").message == "this is UTF-16"


def test_a_large_file_is_refused_by_its_size():
    found = decode(b"#" * (MAX_BYTES + 1), "run.yaml")
    assert found.message.startswith("more than 250,000 bytes are too many for a config")
    assert decode(b"#" * (MAX_BYTES + 1), "f", 9_999_999).message.startswith("9,999,999 bytes are")
    assert decode(b"#" * MAX_BYTES, "run.yaml") == "#" * MAX_BYTES


def test_a_byte_order_mark_is_no_part_of_the_first_key():
    assert read_tree(decode("\ufeffa: 1".encode(), "f"), "f").values == {"a": 1}


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!?|>'\"#%@`,\n\t 01.~<"), max_size=60))
def test_any_text_gives_values_or_problems(text):
    tree = read_tree(text, "run.yaml")
    assert all(item.code == "yaml" and item.message for item in tree.problems)
