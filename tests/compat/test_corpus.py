"""The YAMLs of `corpus/`: shapes that axolotl's users write, with what must be said about each.

Comments in the files are the expectation, no more and no less than what is said:

* ``# expect: ok``, or one ``# expect: CODE KEY`` or ``# expect: CODE KEY: WORDS`` for each problem,
  where WORDS stand in its message or fix (a capability, the key that was meant);
* ``# notice: WORDS`` for every notice of a file that loads, where WORDS stand in it.
"""

import re
from collections import Counter
from pathlib import Path

import pytest

from tunesmith.config.flat import from_flat, to_flat
from tunesmith.config.legacy import other_spellings
from tunesmith.config.read import load
from tunesmith.errors import ConfigError

FOLDER = Path(__file__).parent / "corpus"
CORPUS = sorted([*FOLDER.rglob("*.yaml"), *FOLDER.rglob("*.yml")])


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig")


def comments(path: Path, word: str) -> list[str]:
    return re.findall(rf"^# {word}: (.+)$", text_of(path), re.MULTILINE)


def cases(*, right: bool) -> list:
    return [
        pytest.param(path, id=str(path.relative_to(FOLDER).with_suffix("")))
        for path in CORPUS
        if (comments(path, "expect") == ["ok"]) is right
    ]


def problems_of(path: Path):
    with pytest.raises(ConfigError) as caught:
        load(path)
    return caught.value.problems


def test_every_folder_of_the_corpus_is_filled():
    assert len(CORPUS) >= 120
    assert all(comments(path, "expect") for path in CORPUS)
    folders = Counter(path.parent.name for path in CORPUS)
    assert min(folders.values()) >= 5, folders
    assert len(cases(right=True)) >= 50
    assert len(cases(right=False)) >= 50


def test_line_ends_and_marks_are_still_what_they_were():
    crlf = [path.name for path in CORPUS if b"\r\n" in path.read_bytes()]
    bom = [path.name for path in CORPUS if path.read_bytes().startswith(b"\xef\xbb\xbf")]
    assert sorted(crlf) == ["bom_crlf.yml", "crlf.yaml", "crlf_wrong.yaml"]
    assert sorted(bom) == ["bom.yaml", "bom_crlf.yml"]


@pytest.mark.parametrize("path", cases(right=True))
def test_a_right_config_loads_and_says_what_it_did(path):
    notices = load(path).notices
    expected = comments(path, "notice")
    assert len(notices) == len(expected), notices
    for words in expected:
        assert any(words in notice for notice in notices), (words, notices)


@pytest.mark.parametrize("path", cases(right=True))
def test_flat_to_sections_to_flat_is_the_identity(path):
    config = load(path).config
    for whole in (False, True):
        flat = to_flat(config, all=whole)
        assert from_flat(flat) == config
        assert to_flat(from_flat(flat), all=whole) == flat
    assert load(to_flat(config)).config == config


@pytest.mark.parametrize("path", cases(right=False))
def test_a_wrong_config_has_exactly_the_expected_problems(path):
    expected = [words.partition(": ") for words in comments(path, "expect")]
    problems = problems_of(path)
    found = sorted(f"{problem.code} {problem.key}".rstrip() for problem in problems)
    assert found == sorted(what for what, _, _ in expected)
    for what, _, words in expected:
        assert any(
            words in f"{problem.message} {problem.fix}"
            for problem in problems
            if what == f"{problem.code} {problem.key}".rstrip()
        ), (words, problems)


@pytest.mark.parametrize("path", cases(right=False))
def test_every_problem_is_placed_in_order_and_has_a_message(path):
    problems = problems_of(path)
    lines = [problem.line for problem in problems if problem.line is not None]
    assert lines == sorted(lines)
    for problem in problems:
        assert problem.message
        assert problem.file == str(path)
        assert problem.line or problem.code == "missing"
        if problem.line:
            assert stands_at(problem, text_of(path)), problem
        assert problem.fix


def stands_at(problem, text: str) -> bool:
    """Whether the problem's key, or an old one that it stands for, begins at its place (an item's
    position is written nowhere).
    """
    written = text.splitlines()[problem.line - 1][problem.column - 1 :].lstrip("- {\"'")
    word = problem.key.split(".")[-1]
    words = (word, *(old for old, (_, new) in other_spellings().items() if new == problem.key))
    return word.isdigit() or written.startswith(words) or problem.code in ("yaml", "missing")
