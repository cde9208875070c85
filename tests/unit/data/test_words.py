from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE, WordPiece
from tokenizers.trainers import BpeTrainer

from tunesmith.data.encode import Encoder
from tunesmith.data.words import find_table
from tunesmith.runs.quickstart import DATA

SPECIALS = ("<|im_start|>", "<|im_end|>", "<|im_end|>!", "</s>")
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
WITH_GAPS = r"\p{L}+"
SPLITTERS = {"gpt2": None, "llama3": LLAMA3, "gaps": WITH_GAPS}


def trained(splitter: str, *, whole_alphabet: bool = True) -> Tokenizer:
    """A byte-level tokenizer of 600 tokens that cuts words as named."""
    tokenizer = Tokenizer(BPE())
    pattern = SPLITTERS[splitter]
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*cuts, level]) if cuts else level
    texts = [
        json.loads(line)["text"]
        for line in (DATA / "general_text.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    alphabet = pre_tokenizers.ByteLevel.alphabet() if whole_alphabet else []
    trainer = BpeTrainer(
        vocab_size=600,
        initial_alphabet=alphabet,
        special_tokens=[AddedToken(text, normalized=False) for text in SPECIALS],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encoder_of(tokenizer: Tokenizer, folder: Path) -> Encoder:
    tokenizer.save(str(folder / "tokenizer.json"))
    return Encoder(str(folder))


LETTERS = st.sampled_from([chr(code) for code in range(128)])
PIECES = st.sampled_from(
    [*SPECIALS, "it's", " we'LL", "  ", "\n\n", "12345", " the", "é", "\u2003"]
)
TEXTS = st.lists(st.one_of(LETTERS, PIECES), max_size=40).map("".join)


@pytest.mark.parametrize("whole_alphabet", [True, False])
@pytest.mark.parametrize("splitter", list(SPLITTERS))
def test_ids_and_offsets_are_those_of_the_library(
    splitter: str, whole_alphabet: bool, tmp_path: Path
) -> None:
    tokenizer = trained(splitter, whole_alphabet=whole_alphabet)
    encoder = encoder_of(tokenizer, tmp_path)

    @settings(max_examples=150, deadline=None)
    @given(TEXTS)
    def check(text: str) -> None:
        expected = tokenizer.encode(text, add_special_tokens=False)
        found = encoder.encode(text)
        assert found.ids.tolist() == expected.ids
        assert list(map(tuple, found.offsets.tolist())) == expected.offsets
        assert encoder.encode_each([text]) == [expected.ids]

    check()


@pytest.mark.parametrize("splitter", ["gpt2", "llama3"])
def test_words_are_looked_up_for_the_common_patterns(splitter: str) -> None:
    tokenizer = trained(splitter)
    table = find_table(tokenizer)
    assert table is not None
    text = "<|im_start|>user\nIt's 12345 times as fast.<|im_end|>!\n"
    expected = tokenizer.encode(text)
    found = table.encode(text)
    assert found is not None
    assert found[0] == expected.ids
    assert found[1] == [end - start for start, end in expected.offsets]
    assert table.encode("café") is None


def test_tokenizers_that_look_beyond_a_word_have_no_table() -> None:
    lowering = trained("gpt2")
    lowering.normalizer = normalizers.Lowercase()
    eating = trained("gpt2")
    eating.add_special_tokens([AddedToken("<eat>", lstrip=True)])
    spaced = trained("gpt2")
    spaced.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    whole = trained("gpt2")
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    scripts = trained("gpt2")
    cut = pre_tokenizers.Split(Regex(r"\p{Han}+|\p{L}+|[^\p{L}]"), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    scripts.pre_tokenizer = pre_tokenizers.Sequence([cut, level])
    pieces = Tokenizer(WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    pieces.pre_tokenizer = pre_tokenizers.Whitespace()
    for tokenizer in (lowering, eating, spaced, whole, scripts, pieces):
        assert find_table(tokenizer) is None
