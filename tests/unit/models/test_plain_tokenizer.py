"""A tokenizer read without transformers is the one that transformers reads, or is left to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, TokenizersBackend

from tunesmith.config.model import ModelSection
from tunesmith.config.tokenizer import SpecialTokens, TokenizerSection
from tunesmith.models.plain_tokenizer import GENERIC, TRUSTED_TYPES, read_plain
from tunesmith.models.source import locate
from tunesmith.models.tokenizer import load_tokenizer
from tunesmith.models.tokenizer_facts import TokenizerFacts, facts_of

PLAIN = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "pad_token": "<pad>",
}
EXACT = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A base of which only config and tokenizer are read."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "base"

    def made(*, model_type: str = "llama", **settings: Any) -> Path:
        folder.mkdir(exist_ok=True)
        backend().save(str(folder / "tokenizer.json"))
        said = {key: value for key, value in {**PLAIN, **settings}.items() if value != "left out"}
        (folder / "tokenizer_config.json").write_text(json.dumps(said))
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
        (folder / "model.safetensors").write_bytes(b"")
        return folder

    return made


def backend() -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("a", "b"), ("ab", "c")]
    pieces = [*letters, "ab", "abc"]
    tokenizer = Tokenizer(BPE({piece: at for at, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.add_special_tokens(["<s>", "</s>", "<pad>"])
    tokenizer.add_tokens(["<plain>"])
    return tokenizer


def both(
    folder: Path, section: TokenizerSection | None = None
) -> tuple[TokenizerFacts | None, TokenizerFacts]:
    """Read without transformers, and with it; what was kept is the same file."""
    model, section = ModelSection(base=str(folder)), section or TokenizerSection()
    plain = read_plain(model, section)
    bytes_kept = (Path(plain.folder) / "tokenizer.json").read_bytes() if plain else b""
    if plain:
        shutil.rmtree(plain.folder)
    asked = facts_of(load_tokenizer(locate(model), section))
    if plain:
        assert (Path(asked.folder) / "tokenizer.json").read_bytes() == bytes_kept
        assert list(plain.special_tokens_map) == list(asked.special_tokens_map)
    return plain, asked


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tokenizer_class": "TokenizersBackend", "backend": "tokenizers", "is_local": True},
        {"bos_token": None, "unk_token": "</s>", "cls_token": "<s>", "mask_token": "<pad>"},
        {"bos_token": "left out", "eos_token": "left out"},
        {"chat_template": "{{ messages }}\r\n{{ eos_token }}", "padding_side": "left"},
        {"add_bos_token": True, "add_eos_token": True, "clean_up_tokenization_spaces": True},
        {"added_tokens_decoder": {"258": {"content": "<s>", "special": True, **EXACT}}},
        {"added_tokens_decoder": {}, "model_max_length": 7, "local_files_only": False},
    ],
)
def test_a_generic_tokenizer_is_as_transformers_reads_it(
    make: Make, settings: dict[str, Any]
) -> None:
    plain, asked = both(make(**settings))
    assert plain == asked


def test_a_template_and_a_post_processor_of_files_are_taken(make: Make) -> None:
    folder = make(chat_template="the config's")
    (folder / "chat_template.jinja").write_bytes("the file's\r\n{{ 'é' }}\n".encode())
    tokenizer = backend()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 258)])
    tokenizer.save(str(folder / "tokenizer.json"))
    plain, asked = both(folder)
    assert plain == asked
    assert asked.chat_template == "the file's\n{{ 'é' }}\n"


@pytest.mark.parametrize(
    "settings",
    [
        {"tokenizer_class": "GPT2Tokenizer"},
        {"tokenizer_class": "LlamaTokenizerFast"},
        {"tokenizer_class": "left out"},
        {"model_type": "qwen2"},
        {"pad_token": "left out"},
        {"unk_token": "<new>"},
        {"unk_token": "<plain>"},
        {"eos_token": {"content": "</s>", "special": True, **EXACT}},
        {"image_token": "<plain>"},
        {"extra_special_tokens": ["<plain>"]},
        {"added_tokens_decoder": {"258": {"content": "<S>", "special": True, **EXACT}}},
        {"added_tokens_decoder": {"259": {"content": "<s>", "special": True, **EXACT}}},
        {"added_tokens_decoder": {"258": {"content": "<s>", "special": False, **EXACT}}},
        {"added_tokens_decoder": {"258": {"content": "<s>"}}},
        {"chat_template": [{"name": "default", "template": "{{ messages }}"}]},
        {"auto_map": {"AutoTokenizer": [None, "own.Own"]}},
    ],
)
def test_what_transformers_might_read_otherwise_is_left_to_it(
    make: Make, settings: dict[str, Any]
) -> None:
    folder = make(**settings)
    assert read_plain(ModelSection(base=str(folder)), TokenizerSection()) is None


@pytest.mark.parametrize("name", ["added_tokens.json", "special_tokens_map.json", "tekken.json"])
def test_further_files_are_left_to_transformers(make: Make, name: str) -> None:
    folder = make()
    (folder / name).write_text("{}")
    assert read_plain(ModelSection(base=str(folder)), TokenizerSection()) is None


@pytest.mark.parametrize("state", ["truncation", "padding", "broken", "missing"])
def test_a_file_that_is_more_or_less_than_a_tokenizer_is_left_to_transformers(
    make: Make, state: str
) -> None:
    path = make() / "tokenizer.json"
    tokenizer = backend()
    if state == "truncation":
        tokenizer.enable_truncation(8)
    if state == "padding":
        tokenizer.enable_padding(pad_id=260, pad_token="<pad>")
    tokenizer.save(str(path))
    if state == "broken":
        path.write_text('{"model": {}}')
    if state == "missing":
        path.unlink()
    assert read_plain(ModelSection(base=str(path.parent)), TokenizerSection()) is None


def test_what_the_run_asks_for_beside_is_left_to_transformers(make: Make) -> None:
    folder = make()
    model = ModelSection(base=str(folder))
    assert read_plain(model, TokenizerSection(path=str(folder))) is None
    assert read_plain(model, TokenizerSection(class_name="GPT2Tokenizer")) is None
    special = TokenizerSection(special_tokens=SpecialTokens(eos_token="<pad>"))
    assert read_plain(model, special) is None
    assert read_plain(ModelSection(base="someone/model"), TokenizerSection()) is None


def test_an_unsafe_folder_is_left_to_who_says_what_is_wrong(make: Make) -> None:
    folder = make()
    (folder / "adapter_config.json").write_text("{}")
    assert read_plain(ModelSection(base=str(folder)), TokenizerSection()) is None


@pytest.mark.parametrize("named", GENERIC)
def test_the_trusted_types_take_a_generic_class_at_its_word(make: Make, named: str) -> None:
    for model_type in TRUSTED_TYPES:
        folder = make(model_type=model_type, tokenizer_class=named)
        assert type(AutoTokenizer.from_pretrained(folder)) is TokenizersBackend, model_type
        plain, asked = both(folder)
        assert plain == asked, model_type


def test_the_reference_tokenizers_are_the_same_or_left_alone(
    reference: Path, tmp_path: Path, make: Make
) -> None:
    plain_ones = set()
    for given in sorted((reference / "data" / "tokenizers").iterdir()):
        if not (given / "tokenizer_config.json").is_file():
            continue
        folder = make()
        shutil.rmtree(folder)
        folder.mkdir()
        for path in given.iterdir():
            shutil.copyfile(path, folder / path.name)
        (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
        (folder / "model.safetensors").write_bytes(b"")
        plain, asked = both(folder)
        if plain is not None:
            plain_ones.add(given.name)
            assert plain == asked, given.name
    assert plain_ones == {"bpe4k_chatml", "bpe4k_gemma"}
