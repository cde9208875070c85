"""``tunesmith cache`` as a user runs it."""

from __future__ import annotations

import json

import pytest

from tests import smallrun
from tests.smallrun import ground  # noqa: F401 - a fixture
from tunesmith.cli.cache import _bytes, _number
from tunesmith.cli.main import run
from tunesmith.errors import ExitCode


@pytest.fixture
def config(ground, tmp_path, monkeypatch):  # noqa: F811 - the fixture above
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    keys = smallrun.keys(ground / "base", ground / "chat_template.jsonl")
    return str(smallrun.write_yaml(tmp_path, keys))


def said(capsys, *words, code=ExitCode.DONE):
    assert run(["cache", *words]) == code
    return capsys.readouterr().out


def test_from_nothing_to_a_hit_to_nothing(config, capsys):
    assert said(capsys, "list") == "0 entries, 0 B\n"
    before = said(capsys, "explain", config)
    assert before.count("miss  ") == 2
    assert "nothing like it was prepared before" in before
    assert said(capsys, "list") == "0 entries, 0 B\n"  # it only looked
    assert run(["preprocess", config]) == ExitCode.DONE
    capsys.readouterr()
    assert said(capsys, "explain", config).count("hit   ") == 2
    listed = said(capsys, "list").splitlines()
    assert [line.split()[0] for line in listed] == ["prepared", "set", "2"]
    assert all("chat_template.jsonl" in line for line in listed[:2])
    assert said(capsys, "verify") == "every byte is as it was written\n"
    assert said(capsys, "gc").startswith("removed: 0 entries")
    assert "would be removed: 2 entries" in said(capsys, "gc", "--max-size", "0", "--dry-run")
    assert "removed: 2 entries" in said(capsys, "gc", "--max-size", "0")
    assert said(capsys, "list") == "0 entries, 0 B\n"


def test_a_miss_says_what_changed(config, capsys):
    run(["preprocess", config])
    capsys.readouterr()
    found = json.loads(said(capsys, "explain", config, "--val-set-size", "3", "--json"))
    assert [(one["hit"], one["differences"]) for one in found] == [
        (True, []),
        (False, ["val_set_size: 0.0 -> 3.0", "seed: None -> 7"]),
    ]
    told = said(capsys, "explain", config, "--sequence-len", "200")
    assert told.count("sequence_len: 256 -> 200") == 2
    assert told.count("which differs in") == 2


def test_a_stream_is_explained_too(config, capsys):
    stream = ("explain", config, "--streaming", "true", "--json")
    (stage,) = json.loads(said(capsys, *stream))
    assert (stage["stage"], stage["hit"]) == ("windows of the stream", False)
    run(["preprocess", config, "--streaming", "true"])
    capsys.readouterr()
    assert json.loads(said(capsys, *stream))[0]["hit"]


def test_damage_ends_with_its_own_code(config, capsys, tmp_path):
    run(["preprocess", config])
    path = next((tmp_path / "cache").rglob("samples.arrow"))
    path.write_bytes(path.read_bytes()[:-3] + b"abc")
    capsys.readouterr()
    found = json.loads(said(capsys, "verify", "--json", code=ExitCode.DAMAGED))
    assert found == [str(path)]
    assert run(["cache", "verify"]) == ExitCode.DAMAGED
    assert "samples.arrow" in capsys.readouterr().err
    run(["preprocess", config])
    capsys.readouterr()
    said(capsys, "verify")


@pytest.mark.parametrize(
    "words", [("--older-than", "soon"), ("--max-size", "-1"), ("--max-size", "1x")]
)
def test_limits_that_cannot_be_read(config, capsys, words):
    said(capsys, "gc", *words, code=ExitCode.WRONG_INPUT)


def test_units():
    units = {"": 1, "k": 1000, "g": 10**9}
    for text, number in (("12", 12), ("1.5k", 1500), ("2GB", 2e9), ("2 gib", 2e9), (".5kB", 500)):
        assert _number("--max-size", text, units, "") == number
    assert [_bytes(n) for n in (0, 999, 1500, 2e6, 3e9, 4e12)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.0 MB",
        "3.0 GB",
        "4.0 TB",
    ]
