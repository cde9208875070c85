"""One whole run, listened to from inside: no pickle, no connection, no shell, no secret."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import smallrun, warm
from tests.security import canary
from tunesmith.errors import ExitCode

SECRETS = {
    name: f"canary{number}-{'x' * 24}"
    for number, name in enumerate(
        (
            *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "COMET_API_KEY"),
            *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "OPENAI_API_KEY"),
            *("SWANLAB_API_KEY", "GITHUB_TOKEN", "MLFLOW_TRACKING_PASSWORD", "AZURE_CLIENT_SECRET"),
        ),
        start=10,
    )
}
"""Environment variables as people have them, each with a value that is found again."""

ONLINE = """
import huggingface_hub.constants as hub
hub.HF_HUB_OFFLINE = False
hub.HF_HUB_DISABLE_TELEMETRY = False
hub.ENDPOINT = "http://127.0.0.1:9"
import datasets.config
datasets.config.HF_DATASETS_OFFLINE = datasets.config.HF_HUB_OFFLINE = False
"""
"""Undoes what the tests' environment forbids, so that silence means that nobody asked."""

LISTEN = """
import json, os, sys
heard = os.open({path!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
watched = {{
    "pickle.find_class", "socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.bind",
    "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "webbrowser.open",
}}
def hear(event, arguments):
    if event in watched:
        os.write(heard, (json.dumps([event, str(arguments)]) + chr(10)).encode())
sys.addaudithook(hear)
"""

COMMANDS: dict[str, tuple[Any, ...]] = {
    "validate": ("config", "validate", "run.yaml"),
    "explain": ("config", "explain", "output_dir", "run.yaml"),
    "preprocess": ("preprocess", "run.yaml", "--show", "1"),
    "plan": ("plan", "run.yaml", "--json"),
    "train": ("train", "run.yaml"),
    "again": ("train", "run.yaml", "--max-steps", "6", "--accept-change", "max_steps"),
    "merge": ("merge", "out"),
    "generate": ("generate", "out", "--prompt", "Say sun", "--max-new-tokens", "3"),
    "doctor": ("doctor",),
}


@dataclass(frozen=True)
class Whole:
    """The folder in which the commands ran, and what each said and did."""

    folder: Path
    done: dict[str, warm.Done]
    heard: dict[str, list[tuple[str, str]]]
    fired: Path


def listen(folder: Path, name: str, *words: Any, before: str = "") -> tuple[warm.Done, Any]:
    path = folder.parent / f"{folder.name}-{name}.heard"
    code = LISTEN.format(path=str(path)) + ONLINE + before
    done = warm.run(folder, *words, before=code, env=SECRETS)
    lines = path.read_text().splitlines() if path.exists() else []
    return done, [tuple(json.loads(line)) for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("whole")
    fired = folder / "fired"
    base = smallrun.base(folder)
    data = folder / "data"
    canary.lay(data, fired)
    canary.lay(base, fired)
    smallrun.write_rows(data / "chat.jsonl", smallrun.chat_rows())
    keys = smallrun.keys(base, data, val_set_size=2, max_steps=4)
    smallrun.write_yaml(folder, keys)
    done, heard = {}, {}
    for name, words in COMMANDS.items():
        if name == "again":  # what lies in the folder of an unfinished run is read on resumption
            canary.lay(folder / "out", fired)
        done[name], heard[name] = listen(folder, name, *words)
    yield Whole(folder, done, heard, fired)
    shutil.rmtree(folder, ignore_errors=True)


def test_the_commands_did_their_work(whole: Whole) -> None:
    codes = {name: done.code for name, done in whole.done.items()}
    assert codes == dict.fromkeys(COMMANDS, 0), {n: d.err[-900:] for n, d in whole.done.items()}
    assert (whole.folder / "out" / "merged" / "model.safetensors").exists()
    record = json.loads((whole.folder / "out" / "tunesmith.json").read_text())
    assert record["data"] == [{"path": str(whole.folder / "data"), "commit": None}]
    assert record["base"]["commit"] is None


def test_the_ear_hears(tmp_path: Path) -> None:
    """Without this, silence would mean nothing."""
    before = (
        "import pickle, subprocess, sys; pickle.loads(pickle.dumps(pickle.Pickler));"
        "subprocess.run([sys.executable, '-c', ''])"
    )
    keys = smallrun.keys(Path("tiny/nowhere"), tmp_path / "x.jsonl")
    done, heard = listen(
        tmp_path, "ear", "train", smallrun.write_yaml(tmp_path, keys), before=before
    )
    assert done.code == ExitCode.WRONG_INPUT, done.err
    events = {event for event, _ in heard}
    assert events >= {"pickle.find_class", "subprocess.Popen", "socket.connect"}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_pickle_is_loaded(name: str, whole: Whole) -> None:
    assert [what for event, what in whole.heard[name] if event == "pickle.find_class"] == []
    assert not whole.fired.exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_is_asked_of_any_network(name: str, whole: Whole) -> None:
    assert [heard for heard in whole.heard[name] if heard[0].startswith("socket.")] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_is_run_but_our_own_workers(name: str, whole: Whole) -> None:
    started = [
        what
        for event, what in whole.heard[name]
        if event in ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")
    ]
    assert [what for what in started if "from tunesmith." not in what] == []


def leaks(folder: Path, *texts: str) -> list[str]:
    """Where a secret's bytes stand: in files, their names, or what was said."""
    values = [value.encode() for value in SECRETS.values()]
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    found = [str(path) for path in files if any(v in path.read_bytes() for v in values)]
    found += [text for text in texts if any(v in text.encode() for v in values)]
    return found + [str(path) for path in files if "canary1" in path.name]


def test_no_secret_of_the_environment_is_written_or_said(whole: Whole) -> None:
    said = [text for done in whole.done.values() for text in (done.out, done.err)]
    assert any(path.name == "README.md" for path in whole.folder.rglob("*"))
    assert leaks(whole.folder, *said) == []


CRASHES = {
    "a bug": "RuntimeError('bad header: Bearer ' + os.environ['HF_TOKEN'])",
    "an address": "OSError('cannot read s3://' + os.environ['AWS_ACCESS_KEY_ID'] + ':a@b/c')",
    "one of ours": "ModelError(os.environ['WANDB_API_KEY'], hint=os.environ['HF_TOKEN'])",
}


@pytest.mark.parametrize("name", CRASHES)
@pytest.mark.parametrize("words", [(), ("--debug",)])
def test_no_secret_is_in_the_report_of_an_error(
    name: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    """Libraries put what they were given into their messages."""
    before = (
        "import os; from tunesmith.errors import ModelError; from tunesmith.runs import prepare\n"
        f"def locate(model): raise {CRASHES[name]}\n"
        "prepare.locate = locate"
    )
    data = smallrun.write_rows(tmp_path / "chat.jsonl", smallrun.chat_rows(4))
    keys = smallrun.keys(Path("tiny/nowhere"), data)
    path = smallrun.write_yaml(tmp_path, keys)
    done = warm.run(tmp_path, *words, "train", path, before=before, env=SECRETS)
    assert done.code in (ExitCode.BUG, ExitCode.WRONG_INPUT)
    assert "***" in done.err
    assert leaks(tmp_path, done.out, done.err) == []
