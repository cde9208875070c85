import click
import pytest

from tunesmith.catalog import COMMAND_ALIASES, COMMANDS, NEEDLESS_COMMANDS, UNBUILT_COMMANDS
from tunesmith.cli.aliases import translate
from tunesmith.cli.main import run
from tunesmith.errors import ConfigError, ExitCode

# Every command of axolotl 0.19, and every flag that is not a key of the config.
THEIRS = {
    "preprocess": """debug no-debug debug-text-only debug-num-examples=2 prompter=x download
        no-download iterable cloud=x""",
    "train": """launcher=torchrun num-processes=1 main-process-port=1 debug-text-only no-debug
        debug-num-examples=0 prompter=x shard no-shard cloud=x""",
    "evaluate": "launcher=accelerate num-processes=1 main-process-port=1",
    "inference": "launcher=python prompter=x gradio chat lora-model-dir=d",
    "merge-lora": "lora-model-dir=d output-dir=o dequant override-quantizer=x",
    "merge-sharded-fsdp-weights": "",
    "fetch": "",
    "vllm-serve": "",
    "quantize": "",
    "delinearize-llama4": "",
    "lm-eval": "",
    "agent-docs": "",
    "config-schema": "format=json field=seed",
    "generate-cli-config-options": "",
}

UNBUILT_FLAGS = {"cloud", "iterable", "shard", "gradio"}

CONFIG = """\
base_model: m
datasets: [{path: a}]
learning_rate: 1e-4
micro_batch_size: 1
output_dir: trained
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "run.yml"
    path.write_text(CONFIG)
    return str(path)


@pytest.mark.parametrize("name", THEIRS)
def test_every_command_of_theirs_is_known(name, capsys):
    if name in COMMANDS or name in COMMAND_ALIASES:
        words, notes = translate([name])
        assert words[0] in COMMANDS
        assert bool(notes) is (name not in COMMANDS)
        return
    assert run([name, "run.yml"]) == ExitCode.WRONG_INPUT
    said = capsys.readouterr().err
    assert (f"`{name}` is not built yet" in said) is (name in UNBUILT_COMMANDS)
    assert (name in NEEDLESS_COMMANDS) is (f"no command `{name}`: " in said)


@pytest.mark.parametrize(
    ("name", "flag"), [(name, flag) for name, flags in THEIRS.items() for flag in flags.split()]
)
def test_every_flag_of_theirs_is_replaced_left_out_aloud_or_refused(name, flag, config):
    word = f"--{flag}"
    if flag.partition("=")[0] in UNBUILT_FLAGS:
        with pytest.raises(click.UsageError, match="is not built yet"):
            translate([name, config, word])
        return
    words, notes = translate([name, config, word])
    if flag not in ("output-dir=o", "chat", "lora-model-dir=d", "format=json", "field=seed"):
        assert word not in words
        assert any(flag.partition("=")[0] in note for note in notes)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("inference run.yml --lora-model-dir d", "generate d"),
        ("inference run.yml --lora-model-dir=d --chat", "chat d"),
        ("inference run.yml --prompt x --seed 3", "generate trained --prompt x --seed 3"),
        ("inference run.yml --output-dir other", "generate other"),
        ("inference folder --prompt x", "generate folder --prompt x"),
        ("merge-lora run.yml", "merge trained"),
        ("merge-lora run.yml --lora-model-dir d --output-dir o", "merge d --output-dir o"),
        ("merge-lora run.yml --load-in-4bit false", "merge trained"),
        ("train run.yml --launcher accelerate --seed 3", "train run.yml --seed 3"),
        ("train run.yml --num-processes 1", "train run.yml"),
        ("train run.yml --main-process-port 3 --seed 1", "train run.yml --seed 1"),
        ("evaluate run.yml --launcher=python", "evaluate run.yml"),
        ("preprocess run.yml --debug", "preprocess run.yml --show 1"),
        ("preprocess run.yml --debug-num-examples 5", "preprocess run.yml --show 5"),
        ("preprocess run.yml --debug_num_examples=5", "preprocess run.yml --show 5"),
        ("preprocess run.yml --debug --debug-num-examples 5", "preprocess run.yml --show 5"),
        ("preprocess run.yml --debug-num-examples 5 --debug", "preprocess run.yml --show 5"),
        (
            "preprocess run.yml --debug --debug-text-only --debug_num_examples=2",
            "preprocess run.yml --show 2",
        ),
        ("preprocess run.yml --debug --debug-text-only", "preprocess run.yml --show 1"),
        ("train run.yml --debug --debug-num-examples 5", "train run.yml"),
        ("config-schema", "config schema"),
        ("config-schema --format json", "config schema"),
        ("config-schema --field lora_r", "config explain lora_r"),
        ("config-schema --format=json --field=seed", "config explain seed"),
        ("train run.yml --seed 1", "train run.yml --seed 1"),
        ("generate folder --prompt launcher", "generate folder --prompt launcher"),
    ],
)
def test_their_words_become_ours(theirs, ours, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert translate(theirs.split())[0] == ours.split()


def test_each_new_name_is_said_once(config):
    _, notes = translate(["merge-lora", config, "--dequant", "--lora-model-dir", "d"])
    assert notes == [
        "`merge-lora` is called `tunesmith merge` here",
        "`--dequant` is left out: merging always starts from weights that are not quantised",
        "`merge` takes the model's folder: `tunesmith merge d`",
    ]
    assert translate(["train", config, "--seed", "1"])[1] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train run.yml --num-processes 2", "not built yet: training on several devices"),
        ("train run.yml --cloud c.yml", "not built yet: cloud launchers"),
        ("inference run.yml --gradio", "not built yet: the web page to chat"),
        ("train run.yml -- --nproc_per_node=2", "several devices is not built yet"),
        ("train run.yml --launcher", "`--launcher` needs a value"),
        ("config-schema --format yaml", "JSON only"),
        ("merge-lora run.yml stray", "`stray` belongs to no option"),
    ],
)
def test_what_cannot_be_done_is_refused(words, said, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(click.UsageError, match=said):
        translate(words.split())


def test_a_wrong_config_is_said_to_be_wrong(tmp_path):
    path = tmp_path / "run.yml"
    path.write_text(CONFIG + "lr: 1\n")
    with pytest.raises(ConfigError, match="there is no key `lr`"):
        translate(["merge-lora", str(path)])


def test_commands_run_under_their_old_names(config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["config-schema", "--field", "lora_r"]) == ExitCode.DONE
    captured = capsys.readouterr()
    assert captured.err == "note: `config-schema` is called `tunesmith config explain` here\n"
    assert "LoRA rank." in captured.out
    assert run(["merge-lora", config]) == ExitCode.WRONG_INPUT
    said = capsys.readouterr().err
    assert "note: `merge` takes the model's folder: `tunesmith merge trained`\n" in said
    assert "trained" in said.splitlines()[-2]
