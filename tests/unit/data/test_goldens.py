"""Chats of axolotl 0.19.0, id by id and mask by mask; a table says where and why we differ.

Each record goes from its config through reading, format and renderer, row by row; what is done with
samples afterwards has other tests.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.data.formats.goldens import Tokenizers, records
from tunesmith.config import read
from tunesmith.config.schema import RunConfig
from tunesmith.data.formats.load import load_format
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.overlong import LengthRule, fit
from tunesmith.data.records import Conversation, RowError, Source
from tunesmith.data.render import Renderer
from tunesmith.data.samples import TokenSample
from tunesmith.errors import TunesmithError
from tunesmith.runs.prepare import keep_tokenizer, render_settings

RECORDED = "2026-11-24T00:00:00"
"""The day that templates were told when axolotl's rows were recorded."""

# What axolotl does otherwise, each with the reason that our own account of a token gives.
END = "end of turn"
"""axolotl masks the end of a turn that is neither the eos nor in eot_tokens: a model trained so is
never taught to stop."""
INSIDE = "template text in a body"
"""axolotl masks what the template writes between the generation prompt and the first field
(a blank, `<think>`): a served model has to write it, and never learned to."""
BORDER = "reaches over a border"
"""axolotl trains a token that holds both a part of the header and the start of the answer: the
server's prompt ends inside of it, so that the model is never in the place where it was learned."""
SILENT = "the end of a silent turn"
"""axolotl trains the end of a turn whose spans all say that they do not train: where it should stop
is all that the model would learn of an answer that was taken out."""

DIFFERENCES: dict[str, set[str]] = {
    "chatml-edge-bpe4k_gemma": {END, BORDER},
    "chatml-edge-bpe4k_llama3": {END, BORDER},
    "chatml-edge-gpt2": {END, BORDER},
    "ct-default-bpe4k_gemma": {END},
    "ct-gemma3": {END},
    "ct-sys-gemma3": {END},
    "edge-plain-gemma3": {END},
    "ct-phi_3": {END},
    "ct-qwen_25": {END},
    "ct-sys-qwen3": {END, INSIDE},
    "ct-llama4": {END},
    "ct-cohere": {END},
    "ct-aya": {END},
    "ct-falcon_h1": {END},
    "ct-sys-mistral_v1": {INSIDE},
    "eos-last-mistral": {INSIDE},
    "jinja-kwargs": {INSIDE},
    "drop-system": {END},
    "edge-llama3": {END},
    "edge-plain-llama3": {END},
    "edge-chatml": {BORDER},
    "tools-stock-qwen3": {INSIDE},
    "tools-fn-args-string-qwen3": {INSIDE},
    "reasoning-field-qwen3": {INSIDE},
    "think-split-qwen3": {INSIDE},
    "think-inline-split": {INSIDE},
    "ct-deepseek_v3": {END},
    "ct-exaone": {END},
    "ct-llama3_2_vision": {END},
    "parts-train": {BORDER},
    "parts-weight": {BORDER},
    "detail-llama3-empty-roles": {BORDER, SILENT},
}

REFUSED = {
    "tools-stock-llama3": "printed nothing",
    "think-split-chatml": "`split_thinking` puts the thought",
    "map-roles-missing": "the role 'policy' is unknown",
    "ct-llama3-added": "not built yet",
}
"""What axolotl prepares and is an error here: an answer, a tool call, that the template drops;
thoughts split off for a template that prints none; a role that nobody mapped, which axolotl hands
to the template; added tokens."""

READ_ANYWAY = {"type-sharegpt"}
"""What axolotl refuses and is read here: an old name of a type, with a notice."""

OTHERWISE = {"tools-stock-exaone4"}
"""Records whose text differs: axolotl looks for the keys of a turn in the template by the name of
its loop's variable, does not find them where the template goes by index, and drops the calls."""

EQUAL_AT_LEAST = 44
"""Records without any difference; a regression that makes a record incomparable must not pass."""


def chats(reference: Path) -> Iterator[dict[str, Any]]:
    """The records whose data sets are all chats for a template."""
    for golden in records(reference, "render"):
        types = {str(entry["type"]) for entry in golden["config"]["datasets"]}
        if types <= {"chat_template", "sharegpt"}:
            yield golden


def loaded(golden: Mapping[str, Any]) -> RunConfig:
    return read.load({"output_dir": "out", **golden["config"]}).config


@pytest.fixture(scope="module")
def tokenizers(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizers:
    return Tokenizers(reference, tmp_path_factory.mktemp("tokenizers"))


def renderers(config: RunConfig, tokenizer: Any) -> list[Renderer]:
    """One for each data set, told the recorded day, whole rows whatever the template does."""
    kept = keep_tokenizer(tokenizer)
    settings = (render_settings(config, entry, tokenizer, kept) for entry in config.data.datasets)
    changes: dict[str, Any] = {"now": RECORDED, "history": "whole"}
    return [Renderer(dataclasses.replace(item, **changes)) for item in settings]


def rows(golden: Mapping[str, Any], reference: Path) -> Iterator[tuple[int, int, Any]]:
    """The number of the data set, of the row, and the row, of all that the record was made of."""
    entries = zip(golden["config"]["datasets"], golden["lines"]["datasets"], strict=True)
    for number, (entry, lines) in enumerate(entries):
        root = "goldens" if entry["path"].startswith("derived") else "data"
        whole = (reference / root / entry["path"]).read_text(encoding="utf-8").split("\n")
        for line in lines:
            yield number, line + 1, json.loads(whole[line])


def trained_in(row: Mapping[str, Any]) -> list[bool]:
    """Which tokens axolotl trains; the first one, which nothing predicts, left out."""
    flags = [False] * len(row["input_ids"])
    for start, end in row["train"]:
        flags[start:end] = [True] * (end - start)
    return [False, *flags[1:]]


def kind_of(view: Any, *, ours: bool) -> str:
    """Which known difference a token belongs to; its own text where it is none."""
    if ours and view.reason == "end of turn":
        return END
    if ours and view.field == "template":
        return INSIDE
    if ours and view.text.startswith(" ") and view.message is not None:
        return INSIDE
    if not ours and view.reason == "reaches over a border of what trains":
        return BORDER
    if not ours and view.reason == "an end of turn that does not train":
        return SILENT
    return f"unexplained: {view}"


def made_of(
    golden: Mapping[str, Any], tokenizers: Tokenizers, reference: Path
) -> list[tuple[Renderer, Conversation, TokenSample]]:
    """The record's samples, those that the length rule drops left out.

    Samples of which nothing trains are dropped by us, with a ledger line, and kept by axolotl; they
    are compared too.
    """
    config = loaded(golden)
    made = renderers(config, tokenizers.load(golden["config"]["base_model"]))
    rule = LengthRule(config.packing.sequence_len, 1, config.packing.excess_length)
    found = []
    for number, row, values in rows(golden, reference):
        entry = config.data.datasets[number]
        record = load_format(entry, None)(values, FormatOptions.of(entry, config.data))
        assert isinstance(record, Conversation)
        for sample in made[number].render(record, Source(number, entry.path, row)).samples:
            kept = fit(sample, rule)[0] if sample.runs else [sample]
            found += [(made[number], record, item) for item in kept]
    return found


def compare(golden: Mapping[str, Any], tokenizers: Tokenizers, reference: Path) -> set[str]:
    """The kinds of differences between our rows of a record and axolotl's."""
    samples = made_of(golden, tokenizers, reference)
    assert len(samples) == len(golden["out"])
    kinds = set()
    for (made, record, sample), expected in zip(samples, golden["out"], strict=True):
        ids = sample.input_ids.tolist()
        assert ids == expected["input_ids"]
        weights = sample.target_weights().tolist()
        theirs = trained_in(expected)
        if [weight > 0 for weight in weights] == theirs:
            continue
        (views,) = made.explain(record)
        for view, weight, trains in zip(views, weights, theirs, strict=False):
            if (weight > 0) != trains:
                kinds.add(kind_of(view, ours=weight > 0))
    return kinds


def test_rows_are_axolotls_but_for_its_known_defects(
    reference: Path, tokenizers: Tokenizers
) -> None:
    found: dict[str, set[str]] = {}
    for golden in chats(reference):
        name = golden["id"]
        if "error" in golden and name not in READ_ANYWAY:
            with pytest.raises((TunesmithError, RowError)):
                made_of(golden, tokenizers, reference)
        elif name in REFUSED:
            with pytest.raises((TunesmithError, RowError), match=REFUSED[name]):
                made_of(golden, tokenizers, reference)
        elif name in READ_ANYWAY:
            assert made_of(golden, tokenizers, reference)
        elif name in OTHERWISE:
            with pytest.raises(AssertionError):
                compare(golden, tokenizers, reference)
        else:
            found[name] = compare(golden, tokenizers, reference)
    assert {name: kinds for name, kinds in found.items() if kinds} == DIFFERENCES
    assert sum(not kinds for kinds in found.values()) >= EQUAL_AT_LEAST
