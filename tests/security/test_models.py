"""Model repositories of strangers: nothing of theirs runs, and nothing leads out of them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.security import canary
from tests.security.opens import Opens
from tunesmith.checkpoint.finished import load_finished, open_finished
from tunesmith.config.model import ModelSection
from tunesmith.config.tokenizer import TokenizerSection
from tunesmith.errors import ExitCode, ModelError, TunesmithError
from tunesmith.models.load import load_model, read_config
from tunesmith.models.screen import screen
from tunesmith.models.source import locate
from tunesmith.models.tokenizer import load_tokenizer

CPU = torch.device("cpu")
REPO = "stranger/kernels"


def change(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | values))


def load_all(folder: Path, **keys: Any) -> None:
    """Everything that a run does with a base model before it trains."""
    base = locate(ModelSection(base=str(folder), **keys))
    load_tokenizer(base, TokenizerSection())
    read_config(base)
    load_model(base, torch.float32, None, CPU, "sdpa")


def refused(folder: Path, **keys: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load_all(folder, **keys)
    assert caught.value.exit_code == ExitCode.UNSAFE, caught.value
    return caught.value


def test_pickles_beside_good_weights_are_never_opened(
    base: Path, fired: Path, opens: Opens
) -> None:
    laid = canary.lay(base, fired)
    with opens.heard() as paths:
        load_all(base)
    assert not fired.exists()
    assert {str(path) for path in laid} & paths == set()
    assert str(base / "config.json") in paths


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "weights.pth"])
def test_a_model_of_pickles_is_refused_with_a_command(
    name: str, base: Path, fired: Path, opens: Opens
) -> None:
    (base / "model.safetensors").unlink()
    (path,) = canary.lay(base, fired, (name,))[:1]
    with opens.heard() as paths:
        error = refused(base)
    assert not fired.exists()
    assert str(path) not in paths
    assert name in error.message
    assert "python -c" in error.hint


def run_command(hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run what a refusal prints as it is, but for the seconds that a new process needs."""
    python, flag, code, *words = shlex.split(hint.split("no secrets): ")[1])
    assert (python, flag) == ("python", "-c")
    monkeypatch.setattr("sys.argv", ["-c", *words])
    exec(code, {})


def test_the_command_converts(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file

    weights = load_file(base / "model.safetensors")
    torch.save(weights, base / "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    run_command(refused(base).hint, monkeypatch)
    made = load_file(Path(f"{base}-safetensors") / "model.safetensors")
    assert all(torch.equal(made[name], weights[name]) for name in made)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, f"{base}-safetensors")
    load_all(Path(f"{base}-safetensors"))


def auto_map(target: str = "evil") -> dict[str, Any]:
    names = ("AutoConfig", "AutoModel", "AutoModelForCausalLM")
    return dict.fromkeys(names, f"{target}.Evil") | {"AutoTokenizer": [None, f"{target}.Evil"]}


HARMLESS: Mapping[str, Callable[[Path], None]] = {
    "auto_map of a known model": lambda b: change(b / "config.json", auto_map=auto_map()),
    "auto_map of another repository": lambda b: change(
        b / "config.json", auto_map=auto_map("stranger/code--evil")
    ),
    "auto_map of the tokenizer": lambda b: change(b / "tokenizer_config.json", auto_map=auto_map()),
    "code under every name": lambda b: None,
    "where it was made from": lambda b: change(
        b / "config.json", _name_or_path="some/base", _model_name_or_path="Some 135M Mix1"
    ),
    "any words": lambda b: change(
        b / "config.json",
        _remark="made by hand, twice",
        _source="https://models.example/a",
        _conversion={"^a": "model/x"},
        reference_implementation="https://code.example/a",
        kernel_initializer="uniform",
        training_script="train.py",
    ),
    "files of Python as labels and prefixes": lambda b: change(
        b / "config.json",
        num_labels=1,
        id2label={"0": "main.py"},
        label2id={"main.py": 0},
        task_specific_params={"complete": {"prefix": "run.py"}},
    ),
    "a tokenizer's model": lambda b: change(
        b / "tokenizer_config.json", model_file="tokenizer.model"
    ),
    "any vocabulary": lambda b: change(
        b / "tokenizer_config.json", extra_special_tokens=["<|im_start|>", "<file://a.py>"]
    ),
    "a plain word of attention": lambda b: change(b / "config.json", _attn_implementation="eager"),
}
"""What is only ignored: the run goes on with transformers' own classes."""

HOSTILE: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "an unknown model's auto_map": (
        lambda b: change(b / "config.json", model_type="homemade", auto_map=auto_map()),
        "needs code",
    ),
    "an unknown sub-model's auto_map": (
        lambda b: change(
            b / "config.json", text_config={"model_type": "homemade", "auto_map": auto_map()}
        ),
        "needs code",
    ),
    "an attention kernel": (
        lambda b: change(b / "config.json", _attn_implementation_internal=REPO),
        "_attn_implementation_internal",
    ),
    "an attention kernel by its public name": (
        lambda b: change(b / "config.json", attn_implementation=f"{REPO}:evil"),
        "attn_implementation",
    ),
    "an attention kernel of a part": (
        lambda b: change(b / "config.json", attn_implementation={"text_config": REPO}),
        "attn_implementation.text_config",
    ),
    "an experts' kernel": (
        lambda b: change(b / "config.json", _experts_implementation=REPO),
        "_experts_implementation",
    ),
    "kernels switched on": (
        lambda b: change(b / "config.json", use_kernels=True),
        "use_kernels",
    ),
    "a kernel map": (
        lambda b: change(b / "config.json", kernel_config={"RMSNorm": f"{REPO}:Evil"}),
        "kernel_config.RMSNorm",
    ),
    "its own trust": (
        lambda b: change(b / "config.json", trust_remote_code=True),
        "trust_remote_code",
    ),
    "its own trust in a part": (
        lambda b: change(b / "config.json", text_config={"trust_remote_code": True}),
        "text_config.trust_remote_code",
    ),
    "its own trust in the tokenizer": (
        lambda b: change(b / "tokenizer_config.json", trust_remote_code=True),
        "trust_remote_code",
    ),
    "a model file": (lambda b: change(b / "config.json", model_file="model.py"), "model_file"),
    "a hidden key that names a repository": (
        lambda b: change(b / "config.json", _base_repo="stranger/more"),
        "_base_repo",
    ),
    "a generation config that names a kernel": (
        lambda b: change(b / "generation_config.json", _attn_implementation=REPO),
        "_attn_implementation",
    ),
    "weights elsewhere": (
        lambda b: change(b / "config.json", transformers_weights="../secret.safetensors"),
        "transformers_weights",
    ),
    "a tokenizer's file elsewhere": (
        lambda b: change(
            b / "tokenizer_config.json", fast_tokenizer_files=["../../tokenizer.4.0.json"]
        ),
        "fast_tokenizer_files",
    ),
    "a template's name that leads out": (
        lambda b: change(
            b / "tokenizer_config.json", chat_template=[{"name": "../../a", "template": "x"}]
        ),
        "chat_template.name",
    ),
    "a template's name that leads out, as a key": (
        lambda b: change(b / "tokenizer_config.json", chat_template={"../../a": "x"}),
        "chat_template.name",
    ),
    "an adapter beside it": (
        lambda b: change(b / "adapter_config.json", base_model_name_or_path="stranger/other"),
        "adapter_config.json",
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize("trust", [True, False])
def test_code_of_a_known_model_is_ignored(name: str, trust: bool, base: Path, fired: Path) -> None:
    _add_code(base, fired)
    HARMLESS[name](base)
    load_all(base, trust_remote_code=trust)
    assert not fired.exists()


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("trust", [True, False])
def test_a_hostile_repository_is_refused_before_a_library_reads_it(
    name: str, trust: bool, base: Path, fired: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, said = HOSTILE[name]
    _add_code(base, fired)
    spoil(base)
    _forbid_libraries(monkeypatch)
    error = refused(base, trust_remote_code=trust)
    assert not fired.exists()
    assert said in error.message
    assert error.where


def _add_code(base: Path, fired: Path) -> None:
    for name in canary.python_names():
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_text(canary.code(fired))


def _forbid_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let transformers fail where it would begin to read."""

    def read(*arguments: object, **options: object) -> None:
        raise AssertionError("transformers reads a folder that was not screened")

    for name in ("AutoConfig", "AutoTokenizer", "AutoModelForCausalLM"):
        monkeypatch.setattr(f"transformers.{name}.from_pretrained", read)


def test_templates_of_no_form_are_left_to_the_library(base: Path) -> None:
    change(base / "tokenizer_config.json", chat_template=["x"])
    screen(base, "stranger/model")


# --- paths ----------------------------------------------------------------------------------------


def _index(base: Path, shard: str) -> None:
    weights = base / "model.safetensors"
    weights.rename(base / "model-00001-of-00001.safetensors")
    content = {"metadata": {}, "weight_map": {"lm_head.weight": shard}}
    (base / "model.safetensors.index.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "shard",
    [
        "../outside.safetensors",
        "sub/../../outside.safetensors",
        "..\\outside.safetensors",
        "{outside}",
        "C:\\outside.safetensors",
        "a\0.safetensors",
        "",
        "/dev/zero",
    ],
)
def test_a_shard_outside_of_the_folder_is_refused(shard: str, base: Path, opens: Opens) -> None:
    outside = base.parent / "outside.safetensors"
    shutil.copy(base / "model.safetensors", outside)
    _index(base, shard.replace("{outside}", str(outside)))
    with opens.heard() as paths:
        error = refused(base)
    assert str(outside) not in paths
    assert "model.safetensors.index.json" in error.message


def test_a_folder_whose_name_begins_alike_is_outside(base: Path) -> None:
    """`/safe_dir_evil` begins with `/safe_dir`."""
    evil = base.with_name(base.name + "_evil")
    evil.mkdir()
    shutil.copy(base / "model.safetensors", evil)
    (base / "model.safetensors").unlink()
    (base / "model.safetensors").symlink_to(evil / "model.safetensors")
    assert "link that leads out" in refused(base).message


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja", "vocab.txt"])
def test_a_link_out_of_the_folder_is_not_followed(
    name: str, base: Path, tmp_path: Path, opens: Opens
) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"token": "secret"}')
    (base / name).unlink(missing_ok=True)
    (base / name).symlink_to(secret)
    with opens.heard() as paths:
        assert name in refused(base).message
    assert not {str(secret), str(base / name)} & paths


@pytest.mark.parametrize("name", ["generation_config.json", "merges.txt"])
def test_a_pipe_is_not_waited_for(name: str, base: Path) -> None:
    (base / name).unlink(missing_ok=True)
    os.mkfifo(base / name)
    assert "not a plain file" in refused(base).message


def test_a_snapshot_of_the_hub_s_cache_is_inside(base: Path, tmp_path: Path) -> None:
    """There, every file is a link into ``blobs``."""
    snapshot = tmp_path / "models--a--b" / "snapshots" / ("0" * 40)
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(base.iterdir())):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    load_all(snapshot)
    (snapshot / "sub").mkdir()
    (snapshot / "sub" / "chat_template.jinja").symlink_to("../../../blobs/0")
    screen(snapshot / "sub", "a/b")
    (snapshot / "sub" / "tokenizer.json").symlink_to("../../../../ground/base/tokenizer.json")
    with pytest.raises(ModelError, match="link that leads out"):
        screen(snapshot / "sub", "a/b")
    (snapshot / "tokenizer.json").unlink()
    (snapshot / "tokenizer.json").symlink_to("../../../ground/base/tokenizer.json")
    assert "link that leads out" in refused(snapshot).message


# --- adapters -------------------------------------------------------------------------------------


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    """A folder that peft made."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, trust_remote_code=False)
    folder = tmp_path / "adapter"
    with warnings.catch_warnings():
        # peft asks transformers by a name that transformers 5 has renamed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        get_peft_model(model, LoraConfig(target_modules=["q_proj"], r=2)).save_pretrained(folder)
    return folder


def use(adapter: Path) -> None:
    load_finished(open_finished(adapter), device=CPU)


def test_pickles_beside_an_adapter_are_never_opened(
    adapter: Path, fired: Path, opens: Opens
) -> None:
    laid = canary.lay(adapter, fired, (*canary.PICKLE_NAMES, "adapter_model.bin"))
    with opens.heard() as paths:
        use(adapter)
    assert not fired.exists()
    assert {str(path) for path in laid} & paths == set()


def _only_pickled(adapter: Path) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()


def _pickled_behind_an_index(adapter: Path) -> None:
    """peft reads no index: it would look for the pickle instead."""
    _only_pickled(adapter)
    content = {"weight_map": {"a": "adapter_model-00001-of-00001.safetensors"}}
    (adapter / "adapter_model.safetensors.index.json").write_text(json.dumps(content))


SPOILT: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "pickled weights only": (_only_pickled, "adapter_model.bin"),
    "pickled weights behind an index": (_pickled_behind_an_index, "adapter_model.bin"),
    "a module to import": (
        lambda a: change(
            a / "adapter_config.json", megatron_config={"a": 1}, megatron_core="antigravity"
        ),
        "megatron_core",
    ),
    "a hidden key that names a repository": (
        lambda a: change(a / "adapter_config.json", _kernel="stranger/kernels"),
        "_kernel",
    ),
    "weights behind a link": (
        lambda a: (
            (a / "adapter_model.safetensors").rename(a.parent / "elsewhere.safetensors"),
            (a / "adapter_model.safetensors").symlink_to(a.parent / "elsewhere.safetensors"),
        ),  # type: ignore[dict-item,return-value]
        "link that leads out",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_hostile_adapter_is_refused(name: str, adapter: Path) -> None:
    spoil, said = SPOILT[name]
    spoil(adapter)
    with pytest.raises(TunesmithError) as caught:
        use(adapter)
    assert caught.value.exit_code == ExitCode.UNSAFE
    assert said in caught.value.message


def test_the_command_for_an_adapter_converts(
    adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _only_pickled(adapter)
    with pytest.raises(ModelError) as caught:
        open_finished(adapter)
    run_command(caught.value.hint, monkeypatch)
    (adapter / "adapter_model.bin").unlink()
    use(adapter)


def test_a_hostile_base_under_a_good_adapter_is_refused(adapter: Path, base: Path) -> None:
    change(base / "config.json", _attn_implementation_internal=REPO)
    with pytest.raises(ModelError) as caught:
        use(adapter)
    assert caught.value.exit_code == ExitCode.UNSAFE


def test_a_finished_model_that_needs_code_is_refused(base: Path, fired: Path) -> None:
    _add_code(base, fired)
    change(base / "config.json", model_type="homemade", auto_map=auto_map())
    with pytest.raises(ModelError, match="no config is read here") as caught:
        use(base)
    assert caught.value.exit_code == ExitCode.UNSAFE
    assert not fired.exists()
