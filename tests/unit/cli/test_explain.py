import json

import pytest

from tunesmith.cli.main import run
from tunesmith.errors import ExitCode

RIGHT = """\
base_model: m
datasets: [{path: a.jsonl, type: alpaca}]
learning_rate: 1e-4
micro_batch_size: 1
lora_r: 4
bf16: true
"""


@pytest.fixture
def right(tmp_path):
    path = tmp_path / "right.yaml"
    path.write_text(RIGHT)
    return str(path)


@pytest.fixture
def wrong(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(RIGHT + "lr: 3\nlora_dropout: 2\n")
    return str(path)


def test_a_right_file_is_said_to_be_so_with_its_notices(right, capsys):
    assert run(["config", "validate", right]) == ExitCode.DONE
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        f"{right}: ok",
        "  not checked without --machine: bf16: true - does the device have bfloat16?",
    ]
    assert captured.err == (f"note: {right}:5:1: lora_r: `4` has no effect, adapter is not set\n")


def test_every_problem_of_every_file_is_shown(right, wrong, capsys):
    assert run(["config", "validate", wrong, right]) == ExitCode.WRONG_INPUT
    assert capsys.readouterr().out.splitlines()[:6] == [
        f"{wrong}: 2 problems",
        f"  {wrong}:7:1: lr: there is no key `lr`",
        "      fix: did you mean `learning_rate`? It is set already, keep one of them",
        f"  {wrong}:8:1: lora_dropout: must be less than 1, not `2`",
        "      fix: correct it, or take it out (it is `0` then)",
        f"{right}: ok",
    ]


def test_json_is_one_object_a_file(right, wrong, capsys):
    assert run(["config", "validate", "--json", right, wrong]) == ExitCode.WRONG_INPUT
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert set(first) == {"file", "ok", "problems", "notices", "deferred"}
    assert (first["file"], first["ok"], first["problems"]) == (right, True, [])
    assert first["deferred"]
    assert second["ok"] is False
    assert second["problems"][0] == {
        "code": "unknown-key",
        "key": "lr",
        "file": wrong,
        "line": 7,
        "column": 1,
        "message": "there is no key `lr`",
        "fix": "did you mean `learning_rate`? It is set already, keep one of them",
        "edit": {},
    }


def test_a_missing_file_is_a_verdict_too(capsys):
    assert run(["config", "validate", "--json", "none.yaml"]) == ExitCode.WRONG_INPUT
    assert json.loads(capsys.readouterr().out)["problems"][0]["code"] == "yaml"


def test_a_machine_is_checked_against(right, capsys):
    assert run(["config", "validate", right, "--machine", "t4"]) == ExitCode.WRONG_INPUT
    assert "bf16: Tesla T4 has no bfloat16" in capsys.readouterr().out
    assert run(["config", "validate", right, "--machine", "h100x8"]) == ExitCode.DONE
    assert "not checked" not in capsys.readouterr().out


def test_strict_keys_and_lenient(right, wrong, capsys):
    assert run(["config", "validate", right, "--strict-keys"]) == ExitCode.WRONG_INPUT
    assert "lora_r: `4` has no effect" in capsys.readouterr().out
    assert run(["config", "validate", wrong, "--lenient"]) == ExitCode.WRONG_INPUT
    assert "there is no key" not in capsys.readouterr().out


def test_the_schema_is_json(capsys):
    assert run(["config", "schema"]) == ExitCode.DONE
    assert "learning_rate" in json.loads(capsys.readouterr().out)["properties"]


def test_the_reference_is_markdown(capsys):
    assert run(["config", "schema", "--markdown"]) == ExitCode.DONE
    assert "| `lora_r` | a whole number, 1 or more" in capsys.readouterr().out


def test_a_key_is_explained_with_a_file_and_an_override(right, capsys):
    assert run(["config", "explain", "lora-r", right, "--lora-r", "16", "--json"]) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    assert (found["key"], found["value"]) == ("lora_r", "16")
    assert found["source"] == "--lora-r on the command line"
    assert run(["config", "explain", "lora-r"]) == ExitCode.DONE
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["default"] == "8"
    assert "value" not in lines


def test_another_word_leads_to_the_key_and_nonsense_is_refused(capsys):
    assert run(["config", "explain", "lr"]) == ExitCode.DONE
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (lines["asked"], lines["key"]) == ("lr", "learning_rate")
    assert run(["config", "explain", "xyzzy"]) == ExitCode.WRONG_INPUT
    assert "there is no key `xyzzy`" in capsys.readouterr().err


def test_explaining_for_a_machine_decides_what_waits_for_it(right, capsys):
    assert run(["config", "explain", "bf16", right]) == ExitCode.DONE
    assert "not checked  bf16: true" in capsys.readouterr().out
    assert run(["config", "explain", "bf16", right, "--machine", "h100"]) == ExitCode.DONE
    assert "not checked" not in capsys.readouterr().out
    assert run(["config", "explain", "bf16", right, "--machine", "t4"]) == ExitCode.WRONG_INPUT
    assert run(["config", "explain", "bf16", "--machine", "t4"]) == ExitCode.WRONG_INPUT
    assert "need a FILE" in capsys.readouterr().err


def test_a_key_of_a_wrong_file_is_explained_and_the_file_is_said_to_be_wrong(right, capsys):
    with open(right, "a") as file:
        file.write("sequence_len: -1\nrl: dpo\n")
    assert run(["config", "explain", "lora_r", right, "--lora-r", "16"]) == ExitCode.WRONG_INPUT
    captured = capsys.readouterr()
    assert "value        16" in captured.out
    said = f"{right} is wrong (2 problems): see `tunesmith config validate {right}`\n"
    assert captured.err == said
    assert run(["config", "explain", "rl", right, "--json"]) == ExitCode.WRONG_INPUT
    found = json.loads(capsys.readouterr().out)
    assert (found["value"], found["state"][:9]) == ("dpo", "not built")


def test_a_key_that_is_not_read_says_what_becomes_of_it(capsys):
    assert run(["config", "explain", "flash_attention"]) == ExitCode.DONE
    assert "asked        flash_attention (an old spelling" in capsys.readouterr().out
    assert run(["config", "explain", "s2_attention"]) == ExitCode.DONE
    assert "state        refused: " in capsys.readouterr().out


def test_values_on_the_command_line_are_validated_with_every_file(right, tmp_path, capsys):
    other = tmp_path / "other.yaml"
    other.write_text(RIGHT)
    words = ["config", "validate", "--lora-r", "0", right, str(other), "--seed", "3", "--json"]
    assert run(words) == ExitCode.WRONG_INPUT
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [verdict["file"] for verdict in found] == [right, str(other)]
    for verdict in found:
        (problem,) = verdict["problems"]
        assert (problem["file"], problem["key"]) == ("--lora-r on the command line", "lora_r")
    assert run(["config", "validate", "--seed", "3"]) == ExitCode.WRONG_INPUT
    assert "Missing argument 'FILE...'" in capsys.readouterr().err


def test_a_sweep_is_judged_by_its_plan(right, capsys):
    assert run(["config", "validate", right, "--sweep", "s.yaml"]) == ExitCode.WRONG_INPUT
    assert "`tunesmith plan CONFIG --sweep FILE` judges each run" in capsys.readouterr().err


def test_keys_are_listed_by_pattern(capsys):
    assert run(["config", "keys", "warmup", "--read"]) == ExitCode.DONE
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "warmup_steps",
        "warmup_ratio",
    ]
    assert run(["config", "keys", "xyzzy"]) == ExitCode.WRONG_INPUT


def test_keys_that_are_not_read_are_listed_with_their_state(capsys):
    assert run(["config", "keys", "adam_eps"]) == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("adam_epsilon ")
    assert any(line.split()[0] == "adam_eps" and "`adam_epsilon`" in line for line in lines)
    assert run(["config", "keys", "adam_eps", "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out.splitlines()[0])["state"] == "read"


def test_old_keys_end_with_the_command_that_rewrites_them(right, capsys):
    assert run(["config", "validate", right, "--flash-attention"]) == ExitCode.DONE
    assert "migrate" not in capsys.readouterr().err, "the file itself has nothing old"
    with open(right, "a") as file:
        file.write("flash_attention: true\ndataset_processes: 2\n")
    assert run(["config", "validate", right]) == ExitCode.DONE
    last = capsys.readouterr().err.splitlines()[-1]
    assert (
        last
        == f"note: {right}: 2 old keys: `tunesmith config migrate {right} -w` rewrites the file"
    )
    assert run(["config", "migrate", right, "-w"]) == ExitCode.DONE
    capsys.readouterr()
    assert run(["config", "validate", right]) == ExitCode.DONE
    assert "old key" not in capsys.readouterr().err
