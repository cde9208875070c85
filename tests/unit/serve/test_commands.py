"""``generate`` and ``chat`` as commands: what they read, print and refuse."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from tests.unit.export.parts import make_base
from tunesmith.cli.main import run
from tunesmith.errors import ExitCode
from tunesmith.serve.chat import Sampling, answer, load_speaker

PROMPTS = ["Say sun", "Say moon, please", "?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def expected(folder) -> dict[str, str]:
    said = answer(load_speaker(folder), PROMPTS, Sampling(max_new_tokens=6))
    return dict(zip(PROMPTS, said, strict=True))


@pytest.fixture
def typed(monkeypatch):
    """Lets a text be what the command reads from its stdin."""
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_one_prompt_is_answered_with_the_text_alone(folder, expected, capsys):
    words = ["generate", str(folder), "--prompt", PROMPTS[0], "--max-new-tokens", "6"]
    assert run(words) == ExitCode.DONE
    assert capsys.readouterr().out == expected[PROMPTS[0]] + "\n"


def test_prompts_are_read_a_line_each(folder, expected, capsys, typed):
    typed(f"{PROMPTS[0]}\n\n  {PROMPTS[1]}\n{PROMPTS[2]}")
    assert run(["generate", str(folder), "--max-new-tokens", "6", "--json"]) == ExitCode.DONE
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["prompt"]: line["answer"] for line in lines} == expected
    assert [line["prompt"] for line in lines] == PROMPTS


def test_what_is_drawn_follows_from_the_seed(folder, capsys):
    said = []
    for seed in ("1", "1", "2"):
        words = ["generate", str(folder), "--prompt", "Hi", "--temperature", "3", "--seed", seed]
        assert run([*words, "--max-new-tokens", "20"]) == ExitCode.DONE
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]


def test_without_a_prompt_nothing_is_loaded(tmp_path, capsys, typed):
    typed("\n \n")
    assert run(["generate", str(tmp_path / "nothing")]) == ExitCode.WRONG_INPUT
    assert "No prompt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--max-new-tokens", "0"),
        ("--temperature", "-1"),
        ("--top-p", "0"),
        ("--top-p", "1.5"),
        ("--seed", "x"),
    ],
)
@pytest.mark.parametrize("command", ["generate", "chat"])
def test_a_wrong_way_to_choose_tokens_is_refused(folder, capsys, typed, command, option, value):
    typed("Hi\n")
    assert run([command, str(folder), option, value]) == ExitCode.WRONG_INPUT
    captured = capsys.readouterr()
    assert f"Invalid value for '{option}'" in captured.err
    assert captured.out == ""


def test_a_conversation_is_typed_line_by_line(folder, expected, capsys, typed):
    typed(f"{PROMPTS[0]}\n/reset\n{PROMPTS[1]}\n/exit\n{PROMPTS[2]}\n")
    assert run(["chat", str(folder), "--max-new-tokens", "6"]) == ExitCode.DONE
    out = capsys.readouterr().out
    places = [out.index(text) for text in (expected[PROMPTS[0]], "forgotten", expected[PROMPTS[1]])]
    assert places == sorted(places)
    assert out.count("> ") == 4


@pytest.mark.parametrize("command", ["generate", "chat"])
def test_what_is_no_model_is_refused(tmp_path, capsys, typed, command):
    typed("Hi\n")
    assert run([command, str(tmp_path)]) == ExitCode.WRONG_INPUT
    captured = capsys.readouterr().err
    assert "holds neither a model nor an adapter" in captured
    assert captured.count("error: ") == 1
