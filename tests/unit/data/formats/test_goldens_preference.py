"""Preference rows of axolotl 0.19.0, text by text; tables say where and why we differ.

A branch's prompt is the text before what trains of it, its answer the text that trains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.data.formats.goldens import Tokenizers, entry_of, read_rows, records
from tunesmith.config.dataset_types import format_name
from tunesmith.data.compared import fit_pair, samples_of
from tunesmith.data.overlong import LengthRule
from tunesmith.data.records import Conversation, Judged, Preference, Record, RowError, Segments
from tunesmith.data.records import Source as At
from tunesmith.data.render import Renderer

# What axolotl does otherwise, each with what has to hold for our own text.
OPEN = "axolotl's prompt opens `<think>`, and its answer never closes it"
TAIL = "axolotl trains what the template writes behind the end of the turn"
SPLIT_END = "the end of a turn is no single token of this tokenizer, and its last one straddles"

DIFFERENCES: dict[str, str] = {
    "dpo-ct-qwen3": OPEN,
    "dpo-ct-nosys-gemma-bpe4k_llama3": SPLIT_END,
    "orpo-argilla-sys": TAIL,
    "orpo-ultra-prompt": TAIL,
}
CRASHES = {
    "orpo-chat_template": "axolotl looks for a function `default` that is not there",
    "kto-user-system": "axolotl fails with KeyError where a row has no system text",
    "rm-llama3.icr": "axolotl finds the format's function under no name",
    "rm-no-system-column": "axolotl fails with KeyError where rows have no system column",
}
"""Records that axolotl fails on, and whose rows are read here."""

EMPTY_SYSTEM = "rm-ct-llama3"
"""axolotl writes an empty system turn where a row's system text is empty."""

LENGTHS = {"dpo-long-drop-256", "dpo-long-None-256", "dpo-long-truncate-128"}
SETS = {"dpo-shuffle", "dpo-dedup-val"}
"""Records whose rows are drawn or de-duplicated: compared without order and copies."""


@pytest.fixture(scope="module")
def tokenizers(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizers:
    return Tokenizers(reference, tmp_path_factory.mktemp("tokenizers"))


def renderer_of(tokenizers: Tokenizers, golden: Mapping[str, Any]) -> Renderer:
    name = format_name(entry_of(golden).type, golden["config"].get("rl"))
    return tokenizers.renderer(golden["config"], templated="chat_template" in name)


def texts_of(made: Renderer, branch: Segments | Conversation) -> tuple[str, str]:
    """Prompt and answer of a branch, as texts."""
    if isinstance(branch, Segments):
        prompt, answer = branch.pieces
        return prompt.text, answer.text
    (views,) = made.explain(branch)
    weights = [view.weight for view in views]
    start, end = weights.index(1.0), len(weights) - weights[::-1].index(1.0)
    texts = [view.text for view in views]
    return "".join(texts[:start]), "".join(texts[start:end])


def row_of(made: Renderer, record: Record) -> dict[str, Any]:
    if isinstance(record, Judged):
        prompt, answer = texts_of(made, record.answer)
        return {"prompt": prompt, "completion": answer, "label": record.is_good}
    assert isinstance(record, Preference)
    prompt, chosen = texts_of(made, record.chosen)
    same, rejected = texts_of(made, record.rejected)
    assert prompt == same
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def accounted(kind: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether the two rows differ just as the table says."""
    pairs = [(found[name], wanted[name]) for name in ("chosen", "rejected")]
    if kind == OPEN:
        assert wanted["prompt"] == found["prompt"] + "<think>\n\n"
        return all(f == "<think>\n\n</think>\n\n" + w for f, w in pairs)
    if found["prompt"] != wanted["prompt"]:
        return False
    if kind == TAIL:
        return all(f + "\n" == w for f, w in pairs)
    return all(f + ">" == w and w.endswith("<end_of_turn>") for f, w in pairs)


def plain_records(reference: Path) -> list[dict[str, Any]]:
    other = {*CRASHES, *LENGTHS, EMPTY_SYSTEM}
    return [
        golden
        for golden in records(reference, "preference")
        if golden["id"] not in other and "error" not in golden
    ]


def test_rows_are_axolotls_but_for_its_known_defects(
    reference: Path, tokenizers: Tokenizers
) -> None:
    found: dict[str, str] = {}
    for golden in plain_records(reference):
        name, made = golden["id"], renderer_of(tokenizers, golden)
        rows = [row_of(made, record) for record in read_rows(reference, golden)]
        wanted = [{key: row[key] for key in rows[0]} for row in golden["out"]]
        if name in SETS:
            wanted += [{key: row[key] for key in rows[0]} for row in golden.get("out_eval", ())]
            assert {str(row) for row in rows} == {str(row) for row in wanted}, name
            continue
        assert len(rows) == len(wanted)
        if rows == wanted:
            continue
        kind = DIFFERENCES.get(name, "none")
        assert all(accounted(kind, *pair) for pair in zip(rows, wanted, strict=True)), name
        found[name] = kind
    assert found == DIFFERENCES
    assert len(plain_records(reference)) == 38


@pytest.mark.parametrize("name", CRASHES)
def test_rows_that_axolotl_fails_on_are_read(
    reference: Path, tokenizers: Tokenizers, name: str
) -> None:
    (golden,) = (one for one in records(reference, "preference") if one["id"] == name)
    assert "error" in golden
    made = renderer_of(tokenizers, golden)
    read = read_rows(reference, golden)
    assert len(read) == len(golden["lines"]["datasets"][0])
    for record in read:
        prompt, answer = row_of(made, record)["prompt"], list(row_of(made, record).values())[1]
        assert prompt.strip()
        assert answer.strip()


def test_a_template_that_refuses_the_rows_refuses_them_here(
    reference: Path, tokenizers: Tokenizers
) -> None:
    (golden,) = (one for one in records(reference, "preference") if one["id"] == "dpo-ct-gemma")
    made = renderer_of(tokenizers, golden)
    refused = 0
    for record in read_rows(reference, golden):
        assert isinstance(record, Preference)
        assert isinstance(record.chosen, Conversation)
        if record.chosen.messages[0].role == "system":
            refused += 1
            with pytest.raises(RowError, match="System role not supported"):
                row_of(made, record)
    assert refused > 0


def test_an_empty_system_text_writes_no_system_turn(
    reference: Path, tokenizers: Tokenizers
) -> None:
    (golden,) = (one for one in records(reference, "preference") if one["id"] == EMPTY_SYSTEM)
    made = renderer_of(tokenizers, golden)
    tokenizer = tokenizers.load(golden["config"]["base_model"])
    empty = "<|start_header_id|>system<|end_header_id|>\n\n<|eot_id|>"
    turn = tokenizer(empty, add_special_tokens=False)["input_ids"]
    for record, row in zip(read_rows(reference, golden), golden["out"], strict=True):
        (pair,) = samples_of(made, record, At(0, "f", 1), None)
        for branch in ("chosen", "rejected"):
            wanted = row[f"{branch}_ids"]
            assert wanted[1 : 1 + len(turn)] == turn
            del wanted[1 : 1 + len(turn)]
            assert getattr(pair, branch).input_ids.tolist() == wanted


@pytest.mark.parametrize("name", sorted(LENGTHS))
def test_long_pairs_are_dropped_or_their_answers_cut(
    reference: Path, tokenizers: Tokenizers, name: str
) -> None:
    (golden,) = (one for one in records(reference, "preference") if one["id"] == name)
    config, made = golden["config"], renderer_of(tokenizers, golden)
    policy = config.get("excess_length_strategy") or "drop"
    rule = LengthRule(config["sequence_len"], 2, policy)
    tokenizer = tokenizers.load(config["base_model"])
    kept = []
    for record in read_rows(reference, golden):
        (pair,) = samples_of(made, record, At(0, "f", 1), None)
        if fitted := fit_pair(pair, rule):
            kept.append(fitted)
    assert len(kept) == len(golden["out"])
    for pair, row in zip(kept, golden["out"], strict=True):
        for branch in ("chosen", "rejected"):
            text = tokenizer.decode(getattr(pair, branch).input_ids)
            assert text == row["prompt"] + row[branch]


def test_every_method_is_among_the_goldens(reference: Path) -> None:
    methods = Counter(golden["config"].get("rl") for golden in records(reference, "preference"))
    assert methods.keys() == {"dpo", "ipo", "simpo", "orpo", "kto", None}
    assert sum(methods.values()) == 47
