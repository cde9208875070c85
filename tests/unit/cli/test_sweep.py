"""Sweeps as commands: the runs are listed, started one after another, and told in a table."""

import json
import sys

import pytest

from tests import smallrun, warm
from tests.smallrun import ground  # noqa: F401
from tunesmith.cli.main import run
from tunesmith.errors import ExitCode
from tunesmith.launch import sweep as launched
from tunesmith.launch.sweep import start_process

SWEEP = """\
_:
- {{learning_rate: 1e-3, datasets.0.path: {rows}}}
- {{learning_rate: 1e-3, datasets.0.path: missing.jsonl}}
- {{learning_rate: 2e-2, datasets.0.path: {rows}}}
lora_r: [2]
"""


@pytest.fixture
def folder(ground, tmp_path, monkeypatch):  # noqa: F811
    rows = ground / "chat_template.jsonl"
    keys = smallrun.keys(ground / "base", rows, max_steps=2, save_steps=None, val_set_size=4)
    smallrun.write_yaml(tmp_path, keys)
    (tmp_path / "sweep.yaml").write_text(SWEEP.format(rows=rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def started(folder, monkeypatch):
    """Start the runs in forks of a process that has imported torch already; their words."""
    words: list[list[str]] = []

    def start(path, more=()):
        words.append([str(path), *more])
        return warm.run(folder, "train", path, *more).code

    monkeypatch.setattr(launched, "start_process", start)
    return words


def codes(folder, name="out"):
    found = json.loads((folder / name / "sweep.json").read_text())
    return {entry["name"]: (entry["status"], entry["code"]) for entry in found}


def test_a_failing_run_stops_no_other_and_the_code_tells(folder, started, capsys):
    words = ["train", "run.yaml", "--sweep", "sweep.yaml", "--seed", "5"]
    assert run(words) == ExitCode.WRONG_INPUT
    assert len(started) == 3
    rows = capsys.readouterr().out.splitlines()[-4:]
    assert rows[0].split() == [
        "run",
        "status",
        "loss",
        "eval",
        "loss",
        "tokens/s",
        "folder",
        "keys",
    ]
    failed = {row.split()[0] for row in rows if "failed (exit 2)" in row}
    done = {row.split()[0] for row in rows if " done " in row}
    assert (len(failed), len(done)) == (1, 2)
    assert codes(folder) == dict.fromkeys(failed, ("failed", 2)) | dict.fromkeys(done, ("done", 0))
    for name in done:
        inside = folder / "out" / name
        assert (inside / "adapter_model.safetensors").is_file()
        assert (inside / "config.yaml").read_text() == (folder / f"out/{name}.yaml").read_text()
        assert f"output_dir: out/{name}\n" in (inside / "config.yaml").read_text()
        assert "seed: 5\n" in (inside / "config.yaml").read_text()
    losses = {entry["loss"] for entry in json.loads((folder / "out/sweep.json").read_text())}
    assert len(losses) == 3, "two runs differ, one has none"

    started.clear()
    assert run([*words, "--accept-change", "lora_alpha"]) == ExitCode.WRONG_INPUT
    assert {line[0] for line in started} == {f"out/{name}.yaml" for name in failed}
    assert all(line[1:] == ["--accept-change", "lora_alpha"] for line in started)
    assert {name for name, (status, _) in codes(folder).items() if status != "failed"} == done
    assert capsys.readouterr().out.count("finished before") == 4

    assert run(["plan", *words[1:], "--json"]) == ExitCode.DONE
    listed = json.loads(capsys.readouterr().out)
    assert {entry["name"] for entry in listed if entry["finished"]} == done


def test_fail_fast_ends_with_the_first_that_fails(folder, monkeypatch, capsys):
    monkeypatch.setattr(launched, "start_process", lambda path, more: 4)
    words = ["train", "run.yaml", "--sweep", "sweep.yaml", "--fail-fast"]
    assert run(words) == ExitCode.NOT_FINITE
    assert [status for status, _ in codes(folder).values()] == ["failed"] + ["not started"] * 2


def test_a_run_that_was_told_to_stop_ends_the_sweep(folder, monkeypatch, capsys):
    monkeypatch.setattr(launched, "start_process", lambda path, more: int(ExitCode.STOPPED))
    assert run(["train", "run.yaml", "--sweep", "sweep.yaml"]) == ExitCode.STOPPED
    assert [status for status, _ in codes(folder).values()] == ["stopped"] + ["not started"] * 2


def test_the_plan_of_a_sweep_lists_its_runs_and_changes_nothing(folder, capsys):
    assert run(["plan", "run.yaml", "--sweep", "sweep.yaml"]) == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines] == [
        [f"sweep{n:04d}", "to", "run", f"out/sweep{n:04d}"] for n in range(3)
    ]
    assert all("lora_r=" in line and "learning_rate=" in line for line in lines)
    assert sorted(path.name for path in folder.iterdir()) == ["run.yaml", "sweep.yaml"]


def test_wrong_values_are_told_once_before_anything_starts(folder, monkeypatch, capsys):
    (folder / "sweep.yaml").write_text("lora_r: [2, 0]\nseed: [1, 2]\nlearing_rate: [1e-4]\n")
    monkeypatch.setattr(launched, "start_process", lambda path, more: pytest.fail("started"))
    assert run(["train", "run.yaml", "--sweep", "sweep.yaml"]) == ExitCode.WRONG_INPUT
    said = capsys.readouterr().err
    assert "4 of the sweep's 4 runs are wrong, none was started" in said
    assert said.count("sweep.yaml:1:13: lora_r: must be 1 or more, not `0`") == 1
    assert said.count("did you mean `learning_rate`?") == 1


def test_fail_fast_is_for_sweeps(folder, capsys):
    assert run(["train", "run.yaml", "--fail-fast"]) == ExitCode.WRONG_INPUT
    assert "needs `--sweep FILE`" in capsys.readouterr().err


def test_a_process_of_its_own_is_started_and_its_end_is_told(tmp_path, monkeypatch):
    stub = tmp_path / "python"
    stub.write_text('#!/bin/sh\necho "$@" > "$(dirname "$0")/said"\nexit 4\n')
    stub.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stub))
    assert start_process(tmp_path / "run.yaml", ["--accept-change", "seed"]) == 4
    words = (tmp_path / "said").read_text().split()
    assert words[-4:] == ["train", str(tmp_path / "run.yaml"), "--accept-change", "seed"]
    stub.write_text("#!/bin/sh\nkill -9 $$\n")
    assert start_process(tmp_path / "run.yaml") == 137
