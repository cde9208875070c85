import click
import pytest
from click.testing import CliRunner

from tunesmith.cli.options import OVERRIDE_SETTINGS, parse_overrides, takes_overrides
from tunesmith.config.overrides import Override


def pairs(*words: str) -> list[tuple[str, object]]:
    return [(override.key, override.value) for override in parse_overrides(words)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--learning-rate", "1e-5"], [("learning_rate", 1e-5)]),
        (["--learning_rate=1e-5"], [("learning_rate", 1e-5)]),
        (["--learning-rate", "-1"], [("learning_rate", -1)]),
        (["--sample-packing"], [("sample_packing", True)]),
        (["--no-sample-packing"], [("sample_packing", False)]),
        (["--sample-packing", "false", "--seed", "3"], [("sample_packing", False), ("seed", 3)]),
        (["--sample-packing", "--seed", "3"], [("sample_packing", True), ("seed", 3)]),
        (["--bf16", "auto"], [("bf16", "auto")]),
        (["--bf16"], [("bf16", True)]),
        (["--datasets.0.path", "x.jsonl"], [("datasets.0.path", "x.jsonl")]),
        (["--datasets.0.drop-system-message"], [("datasets.0.drop_system_message", True)]),
        (["--adapter", "null"], [("adapter", None)]),
        (["--chat-template-jinja=--x"], [("chat_template_jinja", "--x")]),
        (["--lora-target-modules", "[q, v]"], [("lora_target_modules", ["q", "v"])]),
        ([], []),
    ],
)
def test_words_become_overrides(words, expected):
    assert pairs(*words) == expected


@pytest.mark.parametrize(
    "words", [["1e-5"], ["--seed"], ["--seed", "--sample-packing"], ["--"], ["-s"]]
)
def test_words_that_fit_nothing_are_a_usage_error(words):
    with pytest.raises(click.UsageError):
        parse_overrides(words)


def test_a_flag_does_not_swallow_a_stray_word():
    with pytest.raises(click.UsageError, match="`x` belongs to no option"):
        parse_overrides(["--sample-packing", "x"])


def test_a_command_keeps_its_own_options():
    @click.command(context_settings=OVERRIDE_SETTINGS)
    @click.argument("path")
    @takes_overrides
    @click.option("--json", "as_json", is_flag=True)
    def command(path: str, overrides: tuple[Override, ...], *, as_json: bool) -> None:
        click.echo(f"{path} {as_json} {[(item.key, item.value) for item in overrides]}")

    words = ["run.yaml", "--json", "--learning-rate", "1e-5", "--lora-r=4", "--seed", "-1"]
    result = CliRunner().invoke(command, words)
    assert result.output == (
        "run.yaml True [('learning_rate', 1e-05), ('lora_r', 4), ('seed', -1)]\n"
    )
