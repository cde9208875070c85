"""The tokenizer of a config, read by a process that has no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE

from tunesmith.config.model import ModelSection
from tunesmith.config.tokenizer import SpecialTokens, TokenizerSection
from tunesmith.errors import ExitCode, ModelError
from tunesmith.models import apart
from tunesmith.models.apart import read_apart
from tunesmith.models.source import locate
from tunesmith.models.tokenizer import load_tokenizer
from tunesmith.models.tokenizer_facts import facts_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base of which only config and tokenizer are read."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    made = tmp_path / "base"
    made.mkdir()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({letter: at for at, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<s>", "</s>", "<pad>"])
    tokenizer.save(str(made / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (made / "tokenizer_config.json").write_text(json.dumps(config))
    (made / "chat_template.jinja").write_text("{{ messages }}")
    (made / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (made / "model.safetensors").write_bytes(b"")
    return made


def ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process, which has torch, ask another one all the same."""
    monkeypatch.delitem(sys.modules, "torch")


@pytest.mark.parametrize("special", [None, SpecialTokens(eos_token="<pad>")])
def test_what_is_read_apart_is_what_is_read_here(
    folder: Path, special: SpecialTokens | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, section = ModelSection(base=str(folder)), TokenizerSection(special_tokens=special)
    here = facts_of(load_tokenizer(locate(model), section))
    monkeypatch.setattr(apart, "_read", lambda *_: pytest.fail("read in this process"))
    ask(monkeypatch)
    assert read_apart(model, section) == here
    assert here.chat_template == "{{ messages }}"
    assert here.eos_token == ("</s>" if special is None else "<pad>")


def test_notices_and_errors_come_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ask(monkeypatch)
    model = ModelSection(base=str(folder))
    with caplog.at_level("WARNING", logger="tunesmith"):
        read_apart(model, TokenizerSection())
    assert "has no pad token" in caplog.text
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled weights only") as caught:
        read_apart(model, TokenizerSection())
    assert caught.value.exit_code == ExitCode.UNSAFE
    assert caught.value.hint
    assert caught.value.where


@pytest.mark.parametrize("code", ["raise SystemExit(3)", "print('{}')"])
def test_a_process_that_cannot_say_it_is_not_asked_twice(
    folder: Path, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "_CODE", code)
    model, section = ModelSection(base=str(folder)), TokenizerSection()
    here = facts_of(load_tokenizer(locate(model), section))
    monkeypatch.setattr(apart, "_read", lambda *_: here)
    ask(monkeypatch)
    assert read_apart(model, section) is here


def test_preparing_rows_imports_none_of_the_heavy_libraries(folder: Path, tmp_path: Path) -> None:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["pad_token"] = "<pad>"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"instruction": "Say a", "output": "a"}) + "\n")
    config = tmp_path / "run.yaml"
    datasets = [{"path": str(rows), "type": "alpaca", "ds_type": "json"}]
    run = {"base_model": str(folder), "learning_rate": 1e-4, "micro_batch_size": 1}
    config.write_text(json.dumps(run | {"datasets": datasets}))
    code = (
        "import sys\nfrom tunesmith.cli.data import preprocess\n"
        f"preprocess.main([{str(config)!r}], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'datasets', 'peft', 'pandas'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *_, ending, found = done.stdout.splitlines()
    assert ending == "prepared now"
    assert found == "[]"


def test_workers_import_none_of_them() -> None:
    code = (
        "import sys, tunesmith.data.worker\n"
        "heavy = {'torch', 'transformers', 'datasets', 'peft', 'pandas', 'pyarrow', 'pydantic'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
