"""Findings in tokens: each fires on what it is for, and is silent beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE

from tunesmith.data.records import Conversation, Message, Segment, Segments, Source, Text, Tokens
from tunesmith.data.render import Renderer, RenderSettings
from tunesmith.data.templates import ChatTemplate

SPECIALS = ("<s>", "</s>", "<pad>", "<end>")
BOS, EOS, PAD, END = range(256, 260)
LONG = " ".join(map(str, range(80)))
AT = Source(0, "f.jsonl", 1)
TURNS = (
    "{% for m in messages %}{{ '[' + m['role'] + ']' + m['content'] + '<end>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of bytes that opens every text with ``<s>``."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIALS])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", BOS)]
    )
    home = tmp_path_factory.mktemp("tokenizer")
    made.save(str(home / "tokenizer.json"))
    return home


def settings(folder: Path, template: str = "<s>" + TURNS) -> RenderSettings:
    return RenderSettings(
        tokenizer_path=str(folder),
        tokenizer_digest="made up",
        sequence_len=64,
        template=ChatTemplate(text=template, name="made up", digest=template),
        special_tokens={"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"},
        eos_id=EOS,
        eos_text="</s>",
    )


def codes(made: RenderSettings, record: Conversation | Segments | Text | Tokens) -> list[str]:
    row = Renderer(made).render(record, AT)
    assert {lint.source for lint in row.lints} <= {str(AT)}
    return [lint.code for lint in row.lints]


def chat(question: str = "u", answer: str = "a") -> Conversation:
    turns: list[Mapping[str, str]] = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    return Conversation(tuple(Message(turn) for turn in turns))


def pieces(*texts: tuple[str, bool], special: bool = True, closed: bool = True) -> Segments:
    made = tuple(Segment(text, train) for text, train in texts)
    return Segments(made, special_tokens=special, closed=closed)


def test_sound_rows_are_silent(folder: Path) -> None:
    made = settings(folder)
    assert codes(made, chat()) == []
    assert codes(made, pieces(("q", False), ("a", True))) == []
    assert codes(made, Text(LONG)) == []
    assert codes(made, Tokens((BOS, 7, 8, EOS), (False, False, True, True))) == []
    written = pieces(("<s>q", False), ("a</s>", True), special=False)
    assert codes(made, written) == []


def test_a_text_that_opens_twice(folder: Path) -> None:
    assert codes(settings(folder, "<s><s>" + TURNS), chat()) == ["double-bos"]
    found = codes(settings(folder), Text("<s>text"))
    assert found == ["double-bos", "special-token"]
    assert codes(settings(folder), Tokens((BOS, BOS, 7, EOS), (False,) * 2 + (True,) * 2)) == [
        "double-bos"
    ]


def test_a_text_that_does_not_open(folder: Path) -> None:
    assert codes(settings(folder, TURNS), chat()) == ["no-bos"]
    assert codes(settings(folder), pieces(("q", False), ("a</s>", True), special=False)) == [
        "no-bos"
    ]
    assert codes(settings(folder), Tokens((7, 8, EOS), (False, True, True))) == ["no-bos"]


def test_a_tokenizer_that_opens_nothing_asks_for_nothing(tmp_path: Path, folder: Path) -> None:
    bare = Tokenizer.from_file(str(folder / "tokenizer.json"))
    bare.post_processor = processors.ByteLevel()
    bare.save(str(tmp_path / "tokenizer.json"))
    assert codes(settings(tmp_path, TURNS), chat()) == []


def test_an_answer_without_an_end(folder: Path) -> None:
    made = settings(folder)
    assert codes(made, pieces(("<s>q", False), ("a", True), special=False)) == ["no-stop"]
    assert codes(made, pieces(("q", False), ("a", True), closed=False)) == ["no-stop"]
    assert codes(made, Tokens((BOS, 7, 8), (False, True, True))) == ["no-stop"]
    assert codes(replace(made, eos_id=None), Text("text")) == ["no-stop"]
    # The end is there and does not train.
    assert codes(made, Tokens((BOS, 7, EOS), (False, True, False))) == ["no-stop"]


def test_ends_that_are_not_to_train_are_not_missed(folder: Path) -> None:
    assert codes(replace(settings(folder), train_on_eos="none"), chat()) == []


def test_the_template_without_ends_is_told_alone(folder: Path) -> None:
    bare = "<s>" + TURNS.replace("<end>", "")
    assert codes(settings(folder, bare), chat()) == ["no-end-of-turn"]


def test_a_row_of_which_nothing_trains(folder: Path) -> None:
    made = settings(folder)
    assert codes(made, Tokens((BOS, 7, EOS), (False,) * 3)) == ["all-masked"]
    assert codes(replace(made, roles_to_train=("tool",)), chat()) == ["all-masked"]
    assert "all-masked" not in codes(made, pieces(("q", False), ("", True), closed=False))


def test_padding_that_trains(folder: Path) -> None:
    made = settings(folder)
    padded = (BOS, 7, EOS, PAD)
    assert codes(made, Tokens(padded, (False, True, True, True))) == ["trained-padding"]
    assert codes(made, Tokens(padded, (False, True, True, False))) == []
    same = replace(made, special_tokens={"bos_token": "<s>", "pad_token": "</s>"})
    assert codes(same, Tokens((BOS, 7, EOS, EOS), (False, True, True, True))) == []


def test_special_tokens_in_the_rows_own_words(folder: Path) -> None:
    made = settings(folder)
    assert codes(made, chat("say </s>")) == ["special-token"]
    assert codes(made, chat("say [INST]")) == ["special-token-text"]
    (lint,) = Renderer(made).render(chat("say <end>"), AT).lints
    assert (lint.code, lint.source) == ("special-token", "f.jsonl:1")
    assert lint.message == "turn 1, content holds '<end>', which becomes a special token"
    assert codes(made, pieces(("say <end>", False), ("a", True))) == ["special-token"]
    assert codes(made, chat("say <END>, < end > and <end")) == []


def test_a_row_in_several_samples_is_told_once(folder: Path) -> None:
    made = replace(settings(folder), eos_id=None)
    assert len(Renderer(made).render(Text(LONG), AT).samples) > 2
    assert codes(made, Text(LONG)) == ["no-stop"]
