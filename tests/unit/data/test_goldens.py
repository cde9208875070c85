"""Rows of axolotl 0.19.0, id by id and mask by mask; a table says where and why we differ.

The formats are stood in for by a few lines here: what is tested is what becomes of a record.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tunesmith.data.records import (
    Conversation,
    Message,
    Record,
    RowError,
    Segment,
    Segments,
    Source,
    Text,
)
from tunesmith.data.render import Renderer, RenderSettings
from tunesmith.data.templates import TEMPLATE_NAMES, resolve_template

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
    "map-roles-missing": {END},
    "drop-system": {END},
    "edge-llama3": {END},
    "edge-plain-llama3": {END},
    "edge-chatml": {BORDER},
    "tools-stock-qwen3": {INSIDE},
    "tools-fn-args-string-qwen3": {INSIDE},
    "reasoning-field-qwen3": {INSIDE},
}
REFUSED = {
    "tools-stock-llama3": "axolotl trains on rows whose answer, a tool call, the template drops",
}
SHORT = "alpaca-edge"
"""axolotl gives a row without an answer no eos; here the eos is what such a row teaches."""

EQUAL_AT_LEAST = 50
"""Records without any difference; a regression that makes a record incomparable must not pass."""

_OTHER_STAGES = {
    *("val_set_size", "tokens", "special_tokens", "test_datasets", "dataset_exact_deduplication"),
    *("dataset_shard_num", "sample_packing", "group_by_length", "min_sample_len"),
    *("excess_length_strategy", "shuffle_before_merging_datasets"),
}
_OTHER_FORMATS = {"message_field_training_detail", "split_thinking", "split"}
_TYPES = ("chat_template", "alpaca", "completion", "input_output")


def golden_records(reference: Path) -> Iterator[dict[str, Any]]:
    path = reference / "goldens/render.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines():
        golden = json.loads(line)
        config = golden["config"]
        (entry, *more) = config["datasets"]
        if (
            not more
            and "error" not in golden
            and entry["type"] in _TYPES
            and not _OTHER_STAGES & {key for key, value in config.items() if value}
            and not _OTHER_FORMATS & set(entry)
            and not config.get("shuffle_merged_datasets")
            and not (config.get("train_on_inputs") and entry["type"] != "chat_template")
            and "parts" not in golden["id"]
            and not golden["id"].startswith(("render/long-", "render/split"))
        ):
            golden["id"] = golden["id"].removeprefix("render/")
            yield golden


def record_of(entry: Mapping[str, Any], row: dict[str, Any]) -> Record:
    if entry["type"] == "completion":
        return Text(row[entry.get("field", "text")])
    if entry["type"] == "input_output":
        pieces = tuple(Segment(piece["text"], piece["label"]) for piece in row["segments"])
        return Segments(pieces, special_tokens=False)
    if entry["type"] == "alpaca":
        return alpaca(row)
    return conversation(entry, row)


def alpaca(row: Mapping[str, str]) -> Segments:
    paired = ", paired with an input that provides further context" if row["input"] else ""
    given = f"### Input:\n{row['input']}\n\n" if row["input"] else ""
    prompt = (
        f"Below is an instruction that describes a task{paired}. Write a response that "
        "appropriately completes the request.\n\n"
        f"### Instruction:\n{row['instruction']}\n\n{given}### Response:\n"
    )
    return Segments((Segment(prompt, train=False), Segment(row["output"], train=True)))


def conversation(entry: Mapping[str, Any], row: Mapping[str, Any]) -> Conversation:
    legacy = {
        "role": entry.get("message_field_role", "role"),
        "content": entry.get("message_field_content", "content"),
    }
    names = {
        theirs: ours for ours, theirs in entry.get("message_property_mappings", legacy).items()
    }
    roles = {"human": "user", "gpt": "assistant"}
    for role, given in entry.get("roles", {}).items():
        roles |= dict.fromkeys(given, role)
    messages = []
    for turn in row[entry.get("field_messages", "messages")]:
        fields = {names.get(key, key): value for key, value in turn.items()}
        fields["role"] = roles.get(fields["role"], fields["role"])
        train = fields.pop(entry.get("message_field_training", ""), None)
        for call in fields.get("tool_calls") or []:
            if isinstance(call["function"]["arguments"], str):
                call["function"]["arguments"] = json.loads(call["function"]["arguments"])
        if not (entry.get("drop_system_message") and fields["role"] == "system"):
            messages.append(Message(fields, train))
    return Conversation(tuple(messages), tuple(row.get("tools") or ()))


@pytest.fixture(scope="module")
def load_tokenizer(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    @lru_cache
    def load(name: str) -> Any:
        home = tmp_path_factory.mktemp("tokenizer")
        AutoTokenizer.from_pretrained(reference / "data" / name).save_pretrained(home)
        return AutoTokenizer.from_pretrained(home)

    return load


def renderer_of(config: Mapping[str, Any], tokenizer: Any) -> Renderer:
    (entry,) = config["datasets"]
    chosen = None
    if entry["type"] == "chat_template":
        chosen = resolve_template(
            tokenizer.chat_template,
            entry.get("chat_template") or config.get("chat_template"),
            entry.get("chat_template_jinja") or config.get("chat_template_jinja"),
        )
    roles = entry.get("roles_to_train")
    specials = tokenizer.special_tokens_map.items()
    return Renderer(
        RenderSettings(
            str(tokenizer.name_or_path),
            "digest",
            config["sequence_len"],
            template=chosen,
            special_tokens={key: text for key, text in specials if isinstance(text, str)},
            eos_id=tokenizer.eos_token_id,
            eos_text=tokenizer.eos_token or "",
            eot_tokens=tuple(config.get("eot_tokens") or ()),
            variables=config.get("chat_template_kwargs") or {},
            roles_to_train=(
                None if config.get("train_on_inputs")
                else ("assistant",) if roles is None
                else tuple(roles)
            ),
            train_on_eos=entry.get("train_on_eos") or "turn",
            train_on_eot=entry.get("train_on_eot"),
            history="whole",
        )
    )  # fmt: skip


def golden_rows(golden: Mapping[str, Any], reference: Path) -> Iterator[tuple[int, Any]]:
    (entry,) = golden["config"]["datasets"]
    root = "goldens" if entry["path"].startswith("derived") else "data"
    lines = (reference / root / entry["path"]).read_text(encoding="utf-8").split("\n")
    for number in next(iter(golden["lines"].values()))[0]:
        yield number, json.loads(lines[number])


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
    return f"unexplained: {view}"


def compare(golden: Mapping[str, Any], made: Renderer, reference: Path) -> set[str]:
    """The kinds of differences between our rows of a record and axolotl's."""
    (entry,) = golden["config"]["datasets"]
    longest = golden["config"]["sequence_len"]
    made_of = []
    for number, row in golden_rows(golden, reference):
        record = record_of(entry, row)
        for sample in made.render(record, Source(0, entry["path"], number + 1)).samples:
            if len(sample) <= longest:
                made_of.append((record, sample))
    assert len(made_of) == len(golden["out"])
    kinds = set()
    for (record, sample), expected in zip(made_of, golden["out"], strict=True):
        ids = sample.input_ids.tolist()
        if ids != expected["input_ids"] and golden["id"].startswith(SHORT):
            assert ids == [*expected["input_ids"], ids[-1]]
            assert sample.runs == ((len(ids) - 1, len(ids), 1.0),)
            continue
        assert ids == expected["input_ids"]
        weights = sample.target_weights().tolist()
        theirs = trained_in(expected)
        if [weight > 0 for weight in weights] == theirs:
            continue
        (views,) = made.explain(record)
        for view, weight, trains in zip(views, weights, theirs, strict=True):
            if (weight > 0) != trains:
                kinds.add(kind_of(view, ours=weight > 0))
    return kinds


def test_rows_are_axolotls_but_for_its_known_defects(reference: Path, load_tokenizer: Any) -> None:
    found: dict[str, set[str]] = {}
    without_template = []
    for golden in golden_records(reference):
        choice = golden["config"].get("chat_template")
        if choice not in (None, "jinja", *TEMPLATE_NAMES):
            without_template.append(golden["id"])
            continue
        made = renderer_of(golden["config"], load_tokenizer(golden["config"]["base_model"]))
        if golden["id"] in REFUSED:
            with pytest.raises(RowError, match="printed nothing"):
                compare(golden, made, reference)
            continue
        found[golden["id"]] = compare(golden, made, reference)
    assert {name: kinds for name, kinds in found.items() if kinds} == DIFFERENCES
    assert sum(not kinds for kinds in found.values()) >= EQUAL_AT_LEAST
    assert len(without_template) <= 9, without_template
