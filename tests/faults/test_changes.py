"""What may change between a run and its resumption: each key, the data, the model, a library."""

from __future__ import annotations

import json
import shutil

import pytest

from tests import warm
from tests.faults.runs import config
from tests.smallrun import chat_rows, write_rows, write_yaml
from tunesmith.runs.folder import PLAN


@pytest.fixture(scope="module")
def begun(ground, tmp_path_factory):
    """A folder with a finished run, its data, base and YAML beside it."""
    folder = tmp_path_factory.mktemp("begun")
    shutil.copytree(ground / "base", folder / "base")
    write_rows(folder / "rows.jsonl", chat_rows())
    done = warm.run(folder, "train", write_yaml(folder, keys(ground)))
    assert (done.code, done.err) == (0, "")
    return folder


def keys(ground, **changes):
    data = [{"path": "rows.jsonl", "type": "chat_template"}]
    usual = {"base_model": "base", "datasets": data, "max_steps": 4, "save_steps": 2}
    return config(ground, "lora", **{**usual, **changes})


@pytest.fixture
def again(ground, begun, tmp_path):
    """Gives the command again in a copy of the folder, after a change of keys or files."""
    folder = shutil.copytree(begun, tmp_path / "again")

    def command(*words, change=lambda folder: None, **changes):
        change(folder)
        return warm.run(folder, "train", write_yaml(folder, keys(ground, **changes)), *words)

    return command


def more_rows(folder):
    write_rows(folder / "rows.jsonl", chat_rows(25))


def other_template(folder):
    path = folder / "base/chat_template.jinja"
    path.write_text(path.read_text().replace("<|im_start|>", "<|im_start|>!"))


def other_tokenizer(folder):
    path = folder / "base/tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(content))


def other_base(folder):
    path = folder / "base/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def other_library(folder):
    path = folder / "out" / PLAN
    plan = json.loads(path.read_text())
    plan["environment"]["versions"]["torch"] = "2.0.0"
    path.write_text(json.dumps(plan))


UNSAFE = {
    "learning_rate": ({"learning_rate": 1e-3}, "learning_rate was 0.01, is 0.001"),
    "batch": ({"micro_batch_size": 2}, "global_batch was 2, is 4"),
    "seed": ({"seed": 8}, "seed was 7, is 8"),
    "rows": ({"change": more_rows}, "data_fingerprint was '"),
    "template": ({"change": other_template}, "data_fingerprint was '"),
    "tokenizer": ({"change": other_tokenizer}, "data_fingerprint was '"),
    "base": ({"change": other_base}, "base_digest was '"),
}


@pytest.mark.faults
@pytest.mark.parametrize("what", UNSAFE)
def test_an_unsafe_change_is_refused_with_both_values(again, what):
    changes, words = UNSAFE[what]
    done = again(**changes)
    assert done.code == 2, done
    said = " ".join(done.err.split())
    assert words in said
    assert f"--accept-change {words.split()[0]}" in said


@pytest.mark.faults
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"save_steps": 1}, "note: save_steps was 2.0, is 1.0; the run goes on with it"),
        ({"logging_steps": 3}, "note: logging_steps was 1, is 3"),
        ({"change": other_library}, "note: torch was 2.0.0, is "),
    ],
)
def test_a_safe_change_is_noted(again, changes, words):
    done = again(**changes)
    assert (done.code, done.err) == (0, "")
    assert words in " ".join(done.out.split())


@pytest.mark.faults
def test_an_accepted_change_goes_on(again):
    done = again("--accept-change", "max_steps", max_steps=6)
    assert (done.code, done.err) == (0, "")
    assert "going on from checkpoint-4" in done.out
