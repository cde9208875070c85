import click
import pytest
from click.testing import CliRunner

from tunesmith.cli.explain import validate
from tunesmith.cli.options import (
    OVERRIDE_SETTINGS,
    Request,
    parse_overrides,
    split_words,
    takes_config,
    takes_machine,
    takes_overrides,
)
from tunesmith.config.overrides import Override
from tunesmith.errors import ConfigError


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
        (["--flash-attention"], [("flash_attention", True)]),
        (["--flash-attention", "false"], [("flash_attention", False)]),
        (["--chat-template-jinja=--x"], [("chat_template_jinja", "--x")]),
        (["--lora-target-modules", "[q, v]"], [("lora_target_modules", ["q", "v"])]),
        (["--no-flash-attention"], [("flash_attention", False)]),
        (["--flash-attention", "--seed", "3"], [("flash_attention", True), ("seed", 3)]),
        (["--no-strict"], [("strict", False)]),
        (["--no-load-4bit"], [("load_4bit", False)]),
        (["--no-relora"], [("relora", False)]),
        (["--no-trl.use-vllm"], [("trl.use_vllm", False)]),
        (["--no-s2-attention"], [("s2_attention", False)]),
        (["--output-dir", "2024"], [("output_dir", "2024")]),
        (["--base-model=123"], [("base_model", "123")]),
        (["--base-model", "true"], [("base_model", "true")]),
        (["--datasets.0.path", "7"], [("datasets.0.path", "7")]),
        (["--vllm.host", "7"], [("vllm.host", "7")]),
        (["--output-dir", "null"], [("output_dir", None)]),
        (["--val-set-size", "7"], [("val_set_size", 7)]),
        ([], []),
    ],
)
def test_words_become_overrides(words, expected):
    assert pairs(*words) == expected


@pytest.mark.parametrize(
    "words",
    [
        ["--no-evaluation-strategy"],
        ["--no-seed"],
        ["1e-5"],
        ["--seed"],
        ["--seed", "--sample-packing"],
        ["--"],
        ["-s"],
    ],
)
def test_words_that_fit_nothing_are_a_usage_error(words):
    with pytest.raises(click.UsageError):
        parse_overrides(words)


def test_a_flag_does_not_swallow_a_stray_word():
    with pytest.raises(click.UsageError, match="`x` belongs to no option"):
        parse_overrides(["--sample-packing", "x"])


@pytest.mark.parametrize(
    ("word", "meant"),
    [("--strict-key", "--strict-keys"), ("--jsn", "--json"), ("--lenien", "--lenient")],
)
@pytest.mark.parametrize("before", [True, False])
def test_a_slip_in_an_option_of_the_command_is_answered_with_it(word, meant, before):
    words = [word, "run.yaml"] if before else ["run.yaml", word]
    result = CliRunner().invoke(validate, words)
    assert result.exit_code == 2
    assert f"There is no option `{word}`. Did you mean `{meant}`?" in result.output


def test_a_slip_in_a_key_is_no_option():
    result = CliRunner().invoke(validate, ["run.yaml", "--learning-rat"])
    assert "`--learning-rat` needs a value" in result.output


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


@pytest.mark.parametrize(
    ("words", "files", "keys"),
    [
        (["a.yaml", "--seed", "3", "b.yaml"], ["a.yaml", "b.yaml"], {"seed": 3}),
        (["--sample-packing", "a.yaml"], ["a.yaml"], {"sample_packing": True}),
        (["--lr", "3", "-"], ["-"], {"lr": 3}),
        (["--no-sample-packing", "a", "--x=1", "b"], ["a", "b"], {"sample_packing": False, "x": 1}),
    ],
)
def test_files_are_told_from_values(words, files, keys):
    others, overrides = split_words(words)
    assert others == files
    assert {override.key: override.value for override in overrides} == keys


def test_an_override_says_which_option_set_it():
    (dashed, equals) = parse_overrides(["--learning-rate", "1", "--lora_r=4"])
    assert dashed.source == "--learning-rate on the command line"
    assert equals.source == "--lora_r on the command line"


@pytest.fixture
def asked():
    """Run a command that takes a config; the request that it got, or the message of its failure."""
    requests: list[Request] = []

    @click.command(context_settings=OVERRIDE_SETTINGS)
    @takes_config
    @takes_machine
    @click.option("--flag", is_flag=True)
    def command(*, request: Request, flag: bool) -> None:
        requests.append(request)

    def ask(*words: str) -> Request | str:
        result = CliRunner().invoke(command, list(words))
        return requests.pop() if result.exit_code == 0 else result.output

    return ask


def test_a_config_may_stand_anywhere_among_its_options(asked):
    for words in (
        ["run.yaml", "--seed", "3", "--flag", "--lenient"],
        ["--seed", "3", "run.yaml", "--lenient"],
        ["--lenient", "--seed=3", "run.yaml"],
        ["--flag", "--seed", "3", "--lenient", "run.yaml"],
    ):
        request = asked(*words)
        assert isinstance(request, Request), request
        assert (request.path, request.lenient, request.strict_keys) == ("run.yaml", True, False)
        assert [(one.key, one.value) for one in request.overrides] == [("seed", 3)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed", "3"], "Missing argument 'CONFIG'"),
        ([], "Missing argument 'CONFIG'"),
        (["--seed", "run.yaml"], "Missing argument 'CONFIG'"),
        (["--seed", "3", "a.yaml", "b.yaml"], "`b.yaml` belongs to no option"),
        (["a.yaml", "b.yaml"], "`b.yaml` belongs to no option"),
    ],
)
def test_a_config_must_be_there_and_alone(asked, words, said):
    assert said in asked(*words)


def test_a_request_reads_for_the_machine_it_names(tmp_path, asked, capsys):
    path = tmp_path / "run.yaml"
    keys = "base_model: m\ndatasets: [{path: a}]\nlearning_rate: 1e-4\nmicro_batch_size: 1\n"
    path.write_text(keys + "bf16: true\nlora_r: 4\n")
    loaded = asked(str(path)).load()
    assert loaded.deferred == ["bf16: true - does the device have bfloat16?"]
    assert "lora_r: `4` has no effect" in capsys.readouterr().err
    assert asked(str(path), "--machine", "h100").load().deferred == []
    with pytest.raises(ConfigError, match="Tesla T4 has no bfloat16"):
        asked(str(path), "--machine", "t4").load()
    with pytest.raises(ConfigError, match="has no effect"):
        asked(str(path), "--strict-keys").load()
    with pytest.raises(ConfigError, match="there is no machine called `h1000`"):
        asked(str(path), "--machine", "h1000").load()
