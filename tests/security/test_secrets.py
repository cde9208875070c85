"""A secret in a config is refused, wherever it stands, and is not said again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import smallrun, warm
from tunesmith.config.flat import leaves
from tunesmith.config.migrate import migrate
from tunesmith.config.overrides import Override
from tunesmith.config.read import examine, load
from tunesmith.errors import ConfigError, ExitCode
from tunesmith.log import scrubbed, setup

SECRET = "canary-4f1b2c3d4e5f"
DATA = [{"path": "rows.jsonl", "type": "chat_template"}]

PLACES: dict[str, dict[str, Any]] = {
    "comet_api_key": {"comet_api_key": SECRET},
    "swanlab_api_key": {"swanlab_api_key": SECRET},
    "swanlab_lark_secret": {"swanlab_lark_secret": SECRET},
    "swanlab_lark_webhook_url": {"swanlab_lark_webhook_url": f"https://lark.example/{SECRET}"},
    "hatchery.api_key": {"hatchery": {"api_key": SECRET}},
    "wandb_api_key": {"wandb_api_key": SECRET},
    "hub_token": {"hub_token": SECRET},
    "hf_use_auth_token": {"hf_use_auth_token": SECRET},
    "env.HF_TOKEN": {"env": {"HF_TOKEN": SECRET}},
    "env.AWS_SECRET_ACCESS_KEY": {"env": {"AWS_SECRET_ACCESS_KEY": SECRET}},
    "my_password": {"my_password": SECRET},
    "trl.vllm_api_key": {"trl": {"vllm_api_key": SECRET}},
    "base_model": {"base_model": f"https://user:{SECRET}@host.example/model"},
    "datasets.0.path": {"datasets": [{**DATA[0], "path": f"s3://key:{SECRET}@bucket/a.jsonl"}]},
    "datasets.1.path": {"datasets": [*DATA, {"path": f"https://{SECRET}@host.example/a"}]},
    "datasets.0.data_files.1": {
        "datasets": [{**DATA[0], "data_files": ["a.jsonl", f"gs://{SECRET}@b/a.jsonl"]}]
    },
    "test_datasets.0.path": {
        "test_datasets": [{"path": f"https://h.example/a?X-Amz-Signature={SECRET}"}]
    },
    "mlflow_tracking_uri": {"mlflow_tracking_uri": f"https://me:{SECRET}@mlflow.example"},
    "output_dir": {"output_dir": f"az://c/a?sig={SECRET}"},
    "wandb_name": {"wandb_name": "hf_" + 2 * SECRET.replace("-", "")},
    "hub_model_id": {"hub_model_id": f"sk-proj-{SECRET}_{SECRET}_{SECRET}"},
    "wandb_entity": {"wandb_entity": "sk-" + 2 * SECRET.replace("-", "")},
    "unknown_key": {"unknown_key": "ghp_" + 2 * SECRET.replace("-", "")},
}
"""Where a secret stands -> the keys that hold it."""

FINE: dict[str, dict[str, Any]] = {
    "a switch": {"hf_use_auth_token": True},
    "special tokens": {"special_tokens": {"pad_token": "<|pad|>", "eos_token": "<|api_token|>"}},
    "a container of Azure": {"datasets": [{**DATA[0], "path": "abfs://box@me.example/a.jsonl"}]},
    "a revision in an address": {
        "datasets": [{**DATA[0], "path": "hf://datasets/a/b@main/c.json"}]
    },
    "an address with a query": {"datasets": [{**DATA[0], "path": "https://h.example/a?version=2"}]},
    "a user of ssh": {"datasets": [{**DATA[0], "path": "ssh://git@github.com/x"}]},
    "names that begin like tokens": {
        "base_model": "/data/hf_llama3instructft8b",
        "datasets": [
            {"path": "wikipedia-sk-articles-filtered-v2", "type": "chat_template"},
            {"path": "data/sk-learn-questions-2024.jsonl", "type": "chat_template"},
            {"path": "sk-or-cz-translations-v2", "type": "chat_template"},
        ],
    },
    "a template's own word": {"chat_template_kwargs": {"session_token": "<|session|>"}},
    "a number": {"secret_ratio": 0.4},
    "nothing": {"comet_api_key": None},
    "a commit": {"base_model": "a/b", "revision_of_model": "0123456789abcdef" * 2 + "01234567"},
}


def keys(**changes: Any) -> dict[str, Any]:
    return smallrun.keys(Path("base"), Path("rows.jsonl"), **changes)


def whole_text(error: ConfigError) -> str:
    problems = [json.dumps([p.message, p.fix, p.key, dict(p.edit)]) for p in error.problems]
    return "\n".join([str(error), error.hint, error.where, *problems, *error.notices])


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_is_refused_and_not_said(place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(keys(**PLACES[place]))
    found = [problem for problem in caught.value.problems if "is not written in" in problem.message]
    assert [(problem.code, problem.key) for problem in found] == [("refused", place)]
    assert "environment" in found[0].fix
    assert SECRET not in whole_text(caught.value)
    assert SECRET.replace("-", "") not in whole_text(caught.value)


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_of_the_command_line_is_refused_and_not_said(place: str) -> None:
    flat = place.split(".")[0]
    found = examine(keys(), [Override(flat, PLACES[place][flat])])
    assert found.error is not None
    assert [p.key for p in found.error.problems if p.code == "refused"] == [place]
    assert [p.file for p in found.error.problems if p.code == "refused"] == ["command line"]
    assert SECRET not in whole_text(found.error)
    assert SECRET not in repr(found.loaded)


@pytest.mark.parametrize("name", FINE)
def test_what_is_no_secret_is_none(name: str) -> None:
    found = examine(keys(**FINE[name]))
    problems = found.error.problems if found.error is not None else ()
    assert not [problem for problem in problems if "is not written in" in problem.message]


def test_no_key_that_is_read_is_named_like_a_secret() -> None:
    """Or its values could never be given."""
    for flat in leaves():
        value = {flat.replace("[]", "").split(".")[-1]: "word"}
        problems = getattr(examine(value).error, "problems", ())
        refused = [p for p in problems if "is not written in" in p.message]
        assert not refused or flat.startswith("special_tokens"), flat


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_is_not_migrated(place: str, tmp_path: Path) -> None:
    """Its text would be shown in the difference."""
    path = smallrun.write_yaml(tmp_path, keys(**PLACES[place], wandb_run_id="x"))
    with pytest.raises(ConfigError) as caught:
        migrate(path.read_text(), str(path))
    assert SECRET not in whole_text(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ("config", "validate", "run.yaml"),
        ("config", "validate", "run.yaml", "--json"),
        ("config", "explain", "base_model", "run.yaml"),
        ("config", "migrate", "run.yaml"),
        ("plan", "run.yaml", "--json"),
        ("--debug", "train", "run.yaml"),
        ("train", "right.yaml", "--base-model", f"https://me:{SECRET}@host.example/model"),
        ("train", "right.yaml", "--comet-api-key", SECRET),
    ],
    ids=" ".join,
)
def test_no_command_says_or_writes_it(words: tuple[str, ...], tmp_path: Path) -> None:
    broken = {**PLACES["datasets.0.path"], **PLACES["comet_api_key"], **PLACES["wandb_api_key"]}
    given = smallrun.write_yaml(tmp_path, keys(**broken))
    smallrun.write_yaml(tmp_path, keys(), "right.yaml")
    done = warm.run(tmp_path, *words)
    assert done.code == ExitCode.WRONG_INPUT, done.out + done.err
    said = "is wrong (3 problems)" if "explain" in words else "is not written in a config"
    assert said in done.out + done.err
    assert SECRET not in done.out + done.err
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != given]
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]


def test_what_is_said_is_scrubbed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_API_KEY", SECRET)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "parallel-words")
    monkeypatch.setenv("SHORT_TOKEN", "word")
    assert scrubbed(f"Bearer {SECRET}!") == "Bearer ***!"
    assert scrubbed("at https://me:pass@host.example/x") == "at https://***@host.example/x"
    assert scrubbed("parallel-words, a word") == "parallel-words, a word"
    logger = setup()
    try:
        try:
            raise ValueError(SECRET)
        except ValueError:
            logger.exception("with %s", SECRET)
        assert SECRET not in capsys.readouterr().err
    finally:
        logger.handlers.clear()
        logger.propagate = True
