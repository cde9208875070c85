"""The texts of each format's example row, pinned, and what axolotl 0.19.0 does otherwise.

`wordings.json` holds prompt and answer of every format whose pieces are texts. The wordings were
compared with axolotl's own strategies on other rows, in six tokenizers, and are equal token by
token but for what the tests below name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.data.formats import examples
from tunesmith.config.data import DataSection, DatasetEntry
from tunesmith.data.formats.load import load_format
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.records import Segments

PINNED = json.loads(Path(__file__).with_name("wordings.json").read_text(encoding="utf-8"))
STYLED = [f"{name}:{style}" for name in ("alpaca", "oasst") for style in ("chat", "chatml", "phi")]


def read(kind: str, row: dict[str, Any], **data: Any) -> Segments:
    entry = examples.entry(kind) if kind == "inline" else DatasetEntry(path="x", type=kind)
    record = load_format(entry)(row, FormatOptions.of(entry, DataSection(**data)))
    assert isinstance(record, Segments)
    return record


def written(record: Segments) -> list[str]:
    """What does not train and what does, as two texts."""
    pieces = record.pieces
    return ["".join(p.text for p in pieces if p.train is trains) for trains in (False, True)]


@pytest.mark.parametrize("kind", PINNED)
def test_a_wording_stays_as_models_were_taught_it(kind: str) -> None:
    assert written(read(kind, examples.row(kind.partition(":")[0]))) == PINNED[kind]


def test_every_format_of_instructions_is_pinned() -> None:
    made = set()
    for name in [*examples.names(), *STYLED]:
        row = examples.row(name.partition(":")[0])
        entry = (
            examples.entry(name) if name in examples.names() else DatasetEntry(path="x", type=name)
        )
        if isinstance(load_format(entry)(row, FormatOptions.of(entry, DataSection())), Segments):
            made.add(name)
    assert made == PINNED.keys()


def test_an_evaluation_is_yaml_as_the_usual_library_writes_it() -> None:
    row = examples.row("creative_acr.load_critique")
    row["critiques"] = {
        "z": "äö 🎉 #x",
        "a": {"long": "a long: text " * 12, "empty": "", "n": None},
    }
    row["scores"] = {"b": 7.5, "a": True, "c": [1, "2"]}
    (_, answer) = written(read("creative_acr.load_critique", row))
    wanted = [yaml.dump(row[name], default_flow_style=False) for name in ("scores", "critiques")]
    assert answer == "".join(wanted)


def test_reflection_in_chat_style_ends_with_the_corrected_answer() -> None:
    """axolotl's ends with `ASSISTANT:` and never shows what comes after."""
    (_, answer) = written(read("reflection:chat", examples.row("reflection")))
    assert answer.endswith("\nASSISTANT: du fromage")


def test_answers_of_llama2_chat_train_and_no_new_text_is_opened_behind_the_last() -> None:
    """axolotl masks the whole row where it miscounts tokens, and ends it with `<s>`."""
    record = read("llama2_chat", examples.row("llama2_chat"))
    assert written(record)[1] == " 42 </s>"
    turns = examples.row("llama2_chat")["conversations"] * 2
    two = read("llama2_chat", {"conversations": turns})
    assert "".join(piece.text for piece in two.pieces).endswith(
        " 42 </s><s>[INST] What is 6 times 7? [/INST] 42 </s>"
    )
    assert written(two)[1] == " 42 </s> 42 </s>"


@pytest.mark.parametrize("kind", ["pygmalion", "llama2_chat"])
def test_prompts_of_turns_train_if_asked(kind: str) -> None:
    """axolotl passes over `train_on_inputs` for these two without a word."""
    record = read(kind, examples.row(kind), train_on_inputs=True)
    assert all(piece.train for piece in record.pieces)


def test_a_conversation_of_pygmalion_begins_with_bos_whoever_speaks_first() -> None:
    """axolotl adds it in front of a system turn alone."""
    turns = examples.row("pygmalion")["conversations"][1:]
    assert read("pygmalion", {"conversations": turns}).special_tokens
