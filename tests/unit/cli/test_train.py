"""What `train`, `check` and `plan` decide before anything is loaded."""

import json

import pytest

from tunesmith.cli.main import run
from tunesmith.dist import runtime
from tunesmith.errors import ExitCode
from tunesmith.launch import local

CONFIG = """\
base_model: m
datasets: [{path: a.jsonl, type: alpaca}]
learning_rate: 1e-4
micro_batch_size: 1
output_dir: out
"""
DEAD = "lora_r: 4\n"
UNKNOWN = "lora_rr: 4\n"


@pytest.fixture
def ran(monkeypatch, tmp_path):
    """The configs with which a run, a check or a plan would have begun."""
    begun: list[tuple[str, object]] = []
    for name in ("start", "rehearse"):
        monkeypatch.setattr(local, name, lambda config, *_, **__: begun.append(config))
    monkeypatch.setattr(local, "draft", lambda config, *_, **__: (begun.append(config), None))
    monkeypatch.setattr("tunesmith.report.console.plan_lines", lambda plan: [])
    monkeypatch.chdir(tmp_path)
    return begun


def write(text, name="run.yaml"):
    with open(name, "w") as file:
        file.write(text)
    return name


@pytest.mark.parametrize("command", ["train", "check", "plan"])
def test_a_key_without_effect_is_a_note_or_with_strict_keys_an_error(command, ran, capsys):
    path = write(CONFIG + DEAD)
    assert run([command, path]) == ExitCode.DONE
    assert "note: run.yaml:6:1: lora_r: `4` has no effect, adapter is not set" in (
        capsys.readouterr().err
    )
    assert len(ran) == 1
    assert run([command, path, "--strict-keys"]) == ExitCode.WRONG_INPUT
    assert "lora_r: `4` has no effect, adapter is not set" in capsys.readouterr().err
    assert run([command, write(CONFIG), "--strict-keys"]) == ExitCode.DONE
    assert len(ran) == 2


@pytest.mark.parametrize("command", ["train", "check", "plan"])
def test_an_unknown_key_is_an_error_or_with_lenient_a_note(command, ran, capsys):
    path = write(CONFIG + UNKNOWN)
    assert run([command, path]) == ExitCode.WRONG_INPUT
    assert "did you mean `lora_r`?" in capsys.readouterr().err
    assert run([command, "--lenient", path]) == ExitCode.DONE
    assert "unknown key `lora_rr` is left out" in capsys.readouterr().err
    assert len(ran) == 1


@pytest.mark.parametrize("command", ["train", "check", "plan"])
def test_what_this_machine_cannot_do_is_said_before_anything_is_loaded(command, ran, capsys):
    assert runtime.detect().device == "cpu"
    assert run([command, write(CONFIG), "--fp16"]) == ExitCode.WRONG_INPUT
    assert "--fp16 on the command line" in capsys.readouterr().err
    assert ran == []


@pytest.mark.parametrize("command", ["check", "plan"])
def test_a_config_is_decided_for_the_machine_that_is_named(command, ran, capsys):
    path = write(CONFIG + "fp16: true\n")
    assert run([command, path, "--machine", "t4"]) == ExitCode.DONE
    assert run([command, path, "--machine", "cpu"]) == ExitCode.WRONG_INPUT
    assert "fp16: a CPU does not train in float16" in capsys.readouterr().err
    assert len(ran) == 1


@pytest.mark.parametrize("command", ["train", "check", "plan"])
def test_every_run_of_a_command_has_its_values(command, ran):
    assert run([command, "--seed", "3", write(CONFIG), "--lora-r", "4"]) == ExitCode.DONE
    assert [(config.batch.seed, config.adapters.rank) for config in ran] == [(3, 4)]


def test_the_runs_of_a_sweep_are_planned_as_strictly(ran, capsys):
    path, sweep = write(CONFIG), write("lora_r: [4, 16]\n", "sweep.yaml")
    assert run(["plan", path, "--sweep", sweep, "--json"]) == ExitCode.DONE
    assert len(json.loads(capsys.readouterr().out)) == 2
    words = ["plan", path, "--sweep", sweep, "--strict-keys"]
    assert run(words) == ExitCode.WRONG_INPUT
    assert "2 of the sweep's 2 runs are wrong" in capsys.readouterr().err
    words = ["plan", path, "--sweep", sweep, "--machine", "cpu", "--fp16"]
    assert run(words) == ExitCode.WRONG_INPUT
    assert "a CPU does not train in float16" in capsys.readouterr().err
