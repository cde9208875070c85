from __future__ import annotations

import json
import logging

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.conformance.tiny import build
from tunesmith.config.model import ModelSection
from tunesmith.config.tokenizer import TokenizerSection
from tunesmith.errors import ModelError
from tunesmith.models.source import locate
from tunesmith.models.tokenizer import check_vocabulary, load_tokenizer, save_tokenizer


@pytest.fixture
def make(tmp_path):
    """A base with a tokenizer whose special tokens the test chooses."""

    def made(*, words=(), **special):
        folder = tmp_path / "base"
        build("Llama").save_pretrained(folder)
        names = ["<s>", "</s>", "<unk>", *words, "a", "b", "c"]
        inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(names)}, unk_token="<unk>"))
        inner.pre_tokenizer = pre_tokenizers.Whitespace()
        tokens = {"bos_token": "<s>", "eos_token": "</s>"} | special
        PreTrainedTokenizerFast(tokenizer_object=inner, **tokens).save_pretrained(folder)
        return locate(ModelSection(base=str(folder)))

    return made


@pytest.mark.parametrize(
    ("words", "special", "pad"),
    [
        (("<pad>",), {"pad_token": "c"}, "c"),
        (("<pad>",), {}, "<pad>"),
        (("<|endoftext|>", "<|finetune_right_pad_id|>"), {}, "<|finetune_right_pad_id|>"),
        (("<|endoftext|>",), {"eos_token": "<|endoftext|>", "unk_token": "<unk>"}, "<unk>"),
        ((), {}, "</s>"),
    ],
)
def test_the_pad_is_the_tokenizers_or_the_least_harmful(make, caplog, words, special, pad):
    base = make(words=words, **special)
    with caplog.at_level(logging.WARNING, logger="tunesmith"):
        tokenizer = load_tokenizer(base, TokenizerSection())
    assert tokenizer.pad_token == pad
    assert ("no pad token" in caplog.text) == ("pad_token" not in special)


def test_special_tokens_of_the_config_win(make):
    base = make(words=("<|im_end|>", "<tool>"))
    section = TokenizerSection(
        special_tokens={
            "eos_token": "<|im_end|>",
            "pad_token": "<unk>",
            "additional_special_tokens": ["<tool>"],
        }
    )
    tokenizer = load_tokenizer(base, section)
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token == "<unk>"
    assert tokenizer.bos_token == "<s>"
    tool = tokenizer.convert_tokens_to_ids("<tool>")
    assert tokenizer.decode([3, tool, tool], skip_special_tokens=True) == ""


@pytest.mark.parametrize("key", ["eos_token", "pad_token", "additional_special_tokens"])
def test_a_special_token_that_the_model_lacks_is_an_error(make, key):
    value = ["<new>"] if key == "additional_special_tokens" else "<new>"
    with pytest.raises(ModelError, match="<new>") as caught:
        load_tokenizer(make(), TokenizerSection(special_tokens={key: value}))
    assert caught.value.where == f"special_tokens.{key}"


def test_a_tokenizer_larger_than_the_embedding_is_an_error(make):
    tokenizer = load_tokenizer(make(), TokenizerSection())
    check_vocabulary(tokenizer, 6)
    with pytest.raises(ModelError, match="6 tokens, the model has rows for 5"):
        check_vocabulary(tokenizer, 5)


def test_a_missing_tokenizer_is_one_clear_error(tmp_path):
    build("Llama").save_pretrained(tmp_path / "base")
    base = locate(ModelSection(base=str(tmp_path / "base")))
    with pytest.raises(ModelError, match="cannot be read") as caught:
        load_tokenizer(base, TokenizerSection())
    assert caught.value.where == "base_model"
    with pytest.raises(ModelError, match="no tokenizer class"):
        load_tokenizer(base, TokenizerSection(class_name="LamaTokenizer"))


def test_the_template_that_was_trained_on_is_saved_with_the_tokenizer(make, tmp_path):
    tokenizer = load_tokenizer(make(), TokenizerSection())
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    save_tokenizer(tokenizer, tmp_path / "out", template)
    assert tokenizer.chat_template is None
    loaded = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert loaded.chat_template == template
    rows = [{"role": "user", "content": "a b"}, {"role": "assistant", "content": " c"}]
    assert loaded.apply_chat_template(rows, tokenize=False) == "a b c"
    assert json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())["pad_token"]
    assert loaded.pad_token == tokenizer.pad_token
