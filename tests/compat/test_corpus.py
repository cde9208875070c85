"""The YAMLs of `corpus/`: shapes that axolotl's users write, with what must be said about each.

Comments in the files are the expectation: `# expect: ok`, or one `# expect: CODE KEY` for every
problem, no more and no less; `# notice: TEXT` for a text that some notice must hold.
"""

import re
from pathlib import Path

import pytest

from tunesmith.config.flat import from_flat, to_flat
from tunesmith.config.read import load
from tunesmith.errors import ConfigError

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.yaml"))


def comments(path: Path, word: str) -> list[str]:
    return re.findall(rf"^# {word}: (.+)$", path.read_text(), re.MULTILINE)


def cases(*, right: bool) -> list:
    return [
        pytest.param(path, id=path.stem)
        for path in CORPUS
        if (comments(path, "expect") == ["ok"]) is right
    ]


def test_the_corpus_has_both_kinds():
    assert len(cases(right=True)) >= 12
    assert len(cases(right=False)) >= 12


@pytest.mark.parametrize("path", cases(right=True))
def test_a_right_config_loads_and_says_what_it_did(path):
    loaded = load(path)
    for text in comments(path, "notice"):
        assert any(text in notice for notice in loaded.notices), (text, loaded.notices)


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
    with pytest.raises(ConfigError) as caught:
        load(path)
    found = sorted(f"{problem.code} {problem.key}" for problem in caught.value.problems)
    assert found == sorted(comments(path, "expect"))


@pytest.mark.parametrize("path", cases(right=False))
def test_every_problem_is_placed_in_order_and_has_a_message(path):
    with pytest.raises(ConfigError) as caught:
        load(path)
    problems = caught.value.problems
    lines = [problem.line for problem in problems if problem.line is not None]
    assert lines == sorted(lines)
    for problem in problems:
        assert problem.message
        assert problem.file == str(path)
        if problem.code != "missing":
            assert problem.line
            assert problem.column
            written = path.read_text().splitlines()[problem.line - 1][problem.column - 1 :]
            assert written.lstrip("- {").startswith(problem.key.split(".")[-1])
        assert problem.fix or problem.code in ("wrong-type", "out-of-range")
