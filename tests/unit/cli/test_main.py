import subprocess
import sys

import click
import pytest

from tunesmith import registry
from tunesmith.catalog import COMMAND_ALIASES, COMMAND_HELP, COMMANDS, UNBUILT_COMMANDS
from tunesmith.cli import main
from tunesmith.cli.main import run
from tunesmith.errors import ConfigError, ExitCode, RunError, TunesmithError

MAIN = "from tunesmith.cli.main import main; main()"


@pytest.fixture
def failing(monkeypatch):
    """Registers a command `fail` that raises what the test wants."""

    def register(error: BaseException) -> None:
        @click.command()
        def fail() -> None:
            raise error

        monkeypatch.setattr(main.LazyGroup, "get_command", lambda self, ctx, name: fail)

    return register


def test_help_lists_every_command_without_importing_it(capsys):
    before = set(sys.modules)
    assert run(["--help"]) == ExitCode.DONE
    output = capsys.readouterr().out
    for name in COMMANDS:
        assert name in output
    assert not {name for name in set(sys.modules) - before if name.startswith("tunesmith.cli.")}


def test_every_command_has_one_line_of_help():
    assert set(COMMAND_HELP) == set(COMMANDS)
    assert all(text.endswith(".") and "\n" not in text for text in COMMAND_HELP.values())


def test_aliases_lead_to_commands():
    assert {alias.split()[0] for alias in COMMAND_ALIASES.values()} <= set(COMMANDS)
    assert not set(COMMAND_ALIASES) & set(COMMANDS)


def test_an_alias_works_and_says_the_new_name(capsys):
    assert run(["config-schema"]) == ExitCode.DONE
    captured = capsys.readouterr()
    assert captured.out.startswith("{")
    assert captured.err == "note: `config-schema` is called `tunesmith config schema` here\n"


def test_an_unknown_command_is_refused_with_the_nearest(capsys):
    assert run(["trian"]) == ExitCode.WRONG_INPUT
    assert "Did you mean `train`?" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(UNBUILT_COMMANDS))
def test_a_command_that_will_come_is_said_to_be_missing(name, capsys):
    assert name not in {*COMMANDS, *COMMAND_ALIASES}
    assert run([name, "run.yaml"]) == ExitCode.WRONG_INPUT
    assert f"`{name}` is not built yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ConfigError("bad key", hint="mend it"), ExitCode.WRONG_INPUT, "error: bad key"),
        (RunError("busy", hint="wait", exit_code=ExitCode.IN_USE), ExitCode.IN_USE, "error: busy"),
        (KeyboardInterrupt(), ExitCode.STOPPED, "stopped"),
        (ZeroDivisionError("oops"), ExitCode.BUG, "Please report it"),
        (TunesmithError("impossible", hint="report"), ExitCode.BUG, "Please report it"),
    ],
)
def test_every_error_ends_with_its_code_and_one_block(failing, capsys, error, code, words):
    failing(error)
    assert run(["fail"]) == code
    shown = capsys.readouterr().err
    assert words in shown
    assert ("Traceback" in shown) is (code is ExitCode.BUG)


def test_debug_shows_the_traceback_of_a_users_mistake(failing, capsys):
    failing(ConfigError("bad key", hint="mend it"))
    assert run(["fail", "--debug"]) == ExitCode.WRONG_INPUT
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("preprocess missing.yaml --debug", False),
        ("preprocess --debug missing.yaml --debug-num-examples 3", False),
        ("train missing.yaml --debug", False),
        ("--debug preprocess missing.yaml", True),
        ("config validate missing.yaml --debug", False),
        ("config schema --debug --jsno", False),
        ("cache explain missing.yaml --debug", True),
    ],
)
def test_debug_behind_a_command_that_shows_rows_is_no_traceback(capsys, words, shown):
    assert run(words.split()) == ExitCode.WRONG_INPUT
    assert ("Traceback" in capsys.readouterr().err) is shown


def test_a_wrong_option_is_a_users_mistake(capsys):
    assert run(["config", "schema", "--jsno"]) == ExitCode.WRONG_INPUT
    assert "No such option" in capsys.readouterr().err


def test_a_command_that_is_no_command_is_a_bug(capsys):
    registry.registry("commands").add("odd", "tunesmith.cli.main:run")
    try:
        assert run(["odd"]) == ExitCode.BUG
    finally:
        registry.registry.cache_clear()
    assert "is no command" in capsys.readouterr().err


def test_version_is_said(capsys):
    assert run(["--version"]) == ExitCode.DONE
    assert capsys.readouterr().out.startswith("tunesmith ")


def cpu_seconds(*arguments: str) -> float:
    """The least CPU time of three runs of Python with these arguments."""
    import resource

    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def test_help_costs_little_more_than_python_itself():
    assert cpu_seconds("-c", MAIN, "--help") - cpu_seconds("-c", "pass") < 0.15


def test_validating_a_config_is_quick(tmp_path):
    path = tmp_path / "run.yaml"
    lines = ["base_model: m", "learning_rate: 1e-4", "micro_batch_size: 1", "val_set_size: 0.1"]
    lines += ["datasets:", "  - path: a.jsonl", "    type: alpaca", "adapter: lora"]
    lines += ["lora_target_linear: true", "lora_r: 8", "eval_steps: 5", "wandb_project:"]
    lines += [f"wandb_{name}:" for name in ("entity", "watch", "name", "log_model")]
    lines += [f"{name}: false" for name in ("load_in_4bit", "load_in_8bit", "tf32", "strict")]
    lines += [f"{name}: true" for name in ("sample_packing", "flash_attention")]
    lines += [f"{name}: 10" for name in ("seed", "warmup_steps", "save_steps", "logging_steps")]
    lines += ["sequence_len: 2048", "optimizer: adamw_torch", "lr_scheduler: cosine"]
    lines += [f"{name}:" for name in ("fsdp", "deepspeed", "debug", "local_rank", "rl")]
    lines += ["weight_decay: 0.0", "bf16: auto", "output_dir: out", "max_grad_norm: 1.0"]
    lines += ["gradient_checkpointing: true", "num_epochs: 2", "chat_template: chatml"]
    assert len(lines) >= 40
    path.write_text("\n".join(lines))
    assert cpu_seconds("-c", MAIN, "config", "validate", str(path)) < 0.5


@pytest.mark.parametrize("arguments", [["--help"], ["config", "schema"], ["config", "keys"]])
def test_words_about_configs_import_no_torch(arguments):
    code = (
        "import sys; from tunesmith.cli.main import run; code = run(sys.argv[1:]);"
        "sys.exit(code or bool({'torch', 'transformers', 'datasets', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=False, capture_output=True
    )
    assert done.returncode == 0


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -c '{MAIN}' config schema | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
