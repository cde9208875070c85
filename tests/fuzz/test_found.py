"""What was found by trying anything, each as the smallest text that showed it."""

from __future__ import annotations

import pytest

from tests.fuzz.texts import LONG, RIGHT, bomb, nested
from tunesmith.config.tree import MAX_BYTES, MAX_DEPTH, MAX_NODES


def only(verdict):
    (problem,) = verdict["problems"]
    return problem


@pytest.mark.parametrize(
    ("raw", "line", "column", "words"),
    [
        pytest.param(b"\x00", 1, 1, "U+0000", id="null byte"),
        pytest.param(b"a: 1\nbc\x07: 2\n", 2, 3, "U+0007", id="bell"),
        pytest.param("a: 1\n".encode("utf-16"), 1, 1, "UTF-16", id="utf-16"),
        pytest.param("a: 1\n".encode("utf-16-be")[1:], 1, 2, "U+0000", id="utf-16 cut"),
        pytest.param(b"# caf\xe9\n", 1, 6, "not UTF-8", id="latin-1"),
        pytest.param(b"- a\n- b\n", 1, 1, "a config is a mapping", id="a list"),
        pytest.param(b"\n\nword\n", 3, 1, "a config is a mapping", id="a word"),
        pytest.param(b"a:1\n\nb: 2\n", 1, 2, "a space is missing", id="no space"),
        pytest.param(b"- a:1\n  b: 2\n", 1, 4, "a space is missing", id="no space in an item"),
        pytest.param(b"a: b: c\n", 1, 5, "not allowed here", id="two colons"),
        pytest.param(b"%YAML 1.2\n", 2, 1, "document start", id="directive alone"),
        pytest.param(b"a: &x [*x]\n", 1, 8, "names no earlier anchor", id="self-reference"),
        pytest.param(b"a: &x {<<: *x}\n", 1, 12, "names no earlier anchor", id="self-merge"),
        pytest.param(b"{[a]: 1}\n", 1, 2, "a key must be a word", id="a list as key"),
    ],
)
def test_text_that_is_no_config_is_refused_at_its_place(judge, raw, line, column, words):
    problem = only(judge.validate(raw))
    assert (problem["code"], problem["line"], problem["column"]) == ("yaml", line, column)
    assert words in problem["message"]
    assert problem["fix"]


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system [touch hacked]",
        "!!python/name:os.system",
        "!!python/object/new:subprocess.Popen [[touch, hacked]]",
        "!!int word",
        "!include other.yaml",
        "!ENV ${HOME}",
    ],
)
def test_no_tag_is_read(judge, tag):
    problem = only(judge.validate(RIGHT + b"output_dir: " + tag.encode() + b"\n"))
    assert problem["message"].endswith("is not read")
    assert not (judge.path.parent / "hacked").exists()


def test_a_tag_as_long_as_the_file_takes_no_time(judge):
    """The parser needs the square of a tag's length: 12 s a megabyte."""
    problem = only(judge.validate(b"a: " + b"!" * (MAX_BYTES - 3)))
    assert (problem["line"], problem["column"]) == (1, 4)
    assert "longer than 10,000 letters" in problem["message"]


@pytest.mark.parametrize("piece", [b"a: '", b"a: |\n ", b"%A b\n", b"a: [word word\n"])
def test_the_slowest_texts_of_the_largest_size_take_no_second(judge, piece):
    judge.validate((piece + b"- |\n  x\n" * (MAX_BYTES // 8))[:MAX_BYTES])


@pytest.mark.parametrize("what", LONG)
def test_thousands_of_keys_that_ask_for_work_take_no_second(judge, what):
    """The judge holds every answer to a second of CPU."""
    assert len(LONG[what]) <= MAX_BYTES
    verdict = judge.validate(LONG[what])
    assert len(verdict["problems"]) + len(verdict["notices"]) > 1_000


def test_of_thousands_of_problems_a_screen_is_listed(judge):
    """All of them are in the JSON, and the first ones say which key was meant."""
    judge.path.write_bytes(LONG["one slip in each"])
    out = judge.command("config", "validate", str(judge.path))["out"].splitlines()
    assert out[0].endswith(": 9000 problems")
    assert out[-1] == "  ... and 8950 more"
    assert len(out) == 2 + 2 * 50
    assert "did you mean `lora_target_modules`?" in out[-2]


def test_a_byte_too_many_is_refused_by_its_size(judge):
    problem = only(judge.validate(b"#" * (MAX_BYTES + 1)))
    assert problem["message"].startswith("250,001 bytes are too many")
    judge.validate(b"#" * MAX_BYTES)


def test_ten_megabytes_are_not_read(judge):
    problem = only(judge.validate(b"base_model: x\n" * 750_000))
    assert problem["message"].startswith("10,500,000 bytes are too many")


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "indent"])
def test_depth_is_bounded(judge, opening):
    problem = only(judge.validate(nested(200, opening)))
    assert f"more than {MAX_DEPTH} deep" in problem["message"]


@pytest.mark.parametrize("merged", [False, True])
def test_aliases_of_aliases_are_bounded(judge, merged):
    problem = only(judge.validate(bomb(10, 12, merged=merged)))
    assert f"more than {MAX_NODES:,} values" in problem["message"]


def test_a_dotted_name_is_no_key_in_a_file(judge):
    """It was taken for the key of a block that it names, and then found nowhere."""
    raw = RIGHT + b"special_tokens.pad_token: x\ndatasets[].split: y\n"
    first, second = judge.validate(raw)["problems"]
    assert (first["key"], first["line"]) == ("special_tokens.pad_token", 5)
    assert first["fix"] == "write it as a block: `special_tokens:` with `pad_token:` in it"
    assert (second["code"], second["line"]) == ("unknown-key", 6)


def test_an_infinite_mesh_is_no_number_of_devices(judge):
    keys = {problem["key"] for problem in judge.validate(b"dp_replicate_size: 1e400")["problems"]}
    assert "dp_replicate_size" in keys


@pytest.mark.parametrize(
    "words",
    [
        ["--datasets.²", "x"],
        ["--datasets." + "9" * 5_000, "x"],
        ["--datasets.-1.path", "x"],
        ["--datasets.0.path.x", "1"],
        ["--..", "1"],
        ["--é", "1"],
        ["--learning_rate", "[" * 5_000],
        ["--learning_rate", "!!python/name:os.system"],
        ["--learning_rate", "*a"],
        ["--no-learning_rate"],
    ],
)
def test_words_that_set_nothing_are_told_so(judge, words):
    judge.path.write_bytes(RIGHT)
    answer = judge.command("config", "explain", "learning_rate", str(judge.path), *words)
    assert answer["code"] == 2
    assert answer["err"]
