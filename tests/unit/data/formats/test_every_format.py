"""What holds for every format: it is described, reads its row, and refuses what is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.formats import examples
from tunesmith.config.dataset_types import format_name, is_compared, is_own
from tunesmith.data.formats.lint import lint_record
from tunesmith.data.formats.load import load_format
from tunesmith.data.formats.reference import DESCRIPTIONS
from tunesmith.data.jsonrow import decode_row
from tunesmith.data.records import (
    Conversation,
    Drawn,
    Judged,
    Preference,
    Prompts,
    Record,
    RowError,
    Segments,
    Steps,
    Text,
    TokenRecord,
    Tokens,
)

NAMES = examples.names()
CHECKED_BY_TYPE = {"untyped", "chat_template", "messages", "messages.chat"}
"""Formats whose columns may also be read under other names or absent."""


def read(name: str, row: dict[str, Any]) -> Record:
    return load_format(examples.entry(name))(row, examples.options(name))


def test_every_format_is_described() -> None:
    assert sorted(DESCRIPTIONS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_row_of_the_reference_is_read(name: str) -> None:
    record = read(name, examples.row(name))
    assert isinstance(record, TokenRecord) != is_compared(name)
    assert list(lint_record(record)) == []
    assert trained_text(record).strip()
    for column in DESCRIPTIONS[name].optional:
        less = {key: part for key, part in examples.row(name).items() if key != column}
        assert read(name, less) is not None
        assert read(name, {**less, column: None}) is not None


def trained_text(record: Record) -> str:
    """All that somebody could learn from a record, as a text."""
    if isinstance(record, Text):
        return record.text
    if isinstance(record, Segments):
        return "".join(piece.text for piece in record.pieces if piece.train)
    if isinstance(record, Conversation):
        return "".join(
            str(m.fields.get("content", "")) for m in record.messages if m.train is not False
        )
    if isinstance(record, Preference):
        return trained_text(record.chosen) + trained_text(record.rejected)
    if isinstance(record, Judged):
        return trained_text(record.answer)
    if isinstance(record, Steps):
        return record.separator.join(record.steps)
    if isinstance(record, Prompts):
        asked = [item.asked for item in record.items]
        return "".join(each if isinstance(each, str) else trained_text(each) for each in asked)
    return "numbers"


@pytest.mark.parametrize("name", sorted(set(NAMES) - CHECKED_BY_TYPE))
def test_a_missing_column_is_named(name: str) -> None:
    described = DESCRIPTIONS[name]
    for column in described.example:
        if column in described.optional or not is_read(name, column):
            continue
        less = {key: part for key, part in examples.row(name).items() if key != column}
        with pytest.raises(RowError) as error:
            read(name, less)
        assert error.value.fix
        assert column in (error.value.field, *error.value.message.split("`")) or other(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_column_of_another_kind_is_refused(name: str) -> None:
    described = DESCRIPTIONS[name]
    for column, usual in described.example.items():
        if not is_read(name, column):
            continue
        for wrong in (42.5, True, {"a": {"b": 1}}, [[1.5]], [None]):
            if type(wrong) is type(usual) and not isinstance(usual, list):
                continue
            with pytest.raises(RowError) as error:
                read(name, examples.row(name) | {column: wrong})
            named = ("chosen", "rejected") if "chosen" in column else (column,)
            assert error.value.field.startswith(named), (column, wrong)
            assert error.value.fix


def is_read(name: str, column: str) -> bool:
    """Whether the format reads the column of its example (others are there for their kin)."""
    unread = {
        "creative_acr.load_answer": {"answer", "scores", "critiques"},
        "creative_acr.load_critique": {"revision"},
        "prompts": {"answer"},
    }
    return column not in unread.get(name, set())


def other(name: str) -> bool:
    """Formats that look for the column under several names and name the last of them."""
    return name.endswith(("choice", ".default", "structured.transform", "pretrain.transform"))


# --- rows of anything -----------------------------------------------------------------------------

LETTERS = st.text(st.characters(exclude_categories=()), max_size=8)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), LETTERS, st.just("x" * 100_000)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(LETTERS, inner, max_size=4)
    ),
    max_leaves=12,
)
ROLES = st.sampled_from(["user", "assistant", "system", "human", "gpt", "tool", "bot", "USER", ""])
TURN = st.fixed_dictionaries(
    {},
    optional={
        "role": ROLES | SCALARS,
        "from": ROLES | SCALARS,
        "content": SCALARS | VALUES,
        "value": SCALARS,
        "weight": SCALARS,
    },
)
COLUMNS = sorted({column for each in DESCRIPTIONS.values() for column in each.example} | {"extra"})
ALSO_NAMED = {"explanation", "instruction", "chosen_response", "rejected_response", "question"}
"""Columns that errors speak of and no example has: the last of several names."""


@st.composite
def rows(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A format and a row: its example with some columns changed, gone or new."""
    name = draw(st.sampled_from(NAMES))
    row = examples.row(name)
    parts = VALUES | st.lists(TURN, max_size=4) | LETTERS | st.lists(SCALARS, max_size=4)
    for column in draw(st.lists(st.sampled_from([*row, *COLUMNS]), min_size=1, max_size=3)):
        if draw(st.booleans()):
            row[column] = draw(parts)
        else:
            row.pop(column, None)
    return name, row


def check(name: str, row: dict[str, Any]) -> None:
    """The row gives a record that holds the row's own words, or an error that says where."""
    refused: RowError | None = None
    record: Record | None = None
    try:
        record = read(name, row)
    except RowError as error:
        refused = error
    if record is None:
        assert refused is not None
        assert refused.message
        assert refused.fix
        assert not refused.field or refused.field.split("[")[0].split(".")[0] in {
            *row,
            *COLUMNS,
            *ALSO_NAMED,
        }
        return
    list(lint_record(record))
    assert is_sound(record)
    text = trained_text(record)
    assert "None" not in text or any("None" in str(part) for part in _strings(row))


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in _strings(part)]
    return [text for part in value for text in _strings(part)] if isinstance(value, list) else []


def is_sound(record: Record) -> bool:
    """Every text of a record is a text, every id and label what its type says."""
    if isinstance(record, Segments):
        return all(isinstance(piece.text, str) for piece in record.pieces)
    if isinstance(record, Tokens):
        same = len(record.ids) == len(record.train)
        return same and all(type(token) is int and token >= 0 for token in record.ids)
    if isinstance(record, Conversation):
        contents = [message.fields.get("content", "") for message in record.messages]
        return bool(contents) and all(isinstance(content, str) for content in contents)
    if isinstance(record, Preference):
        return is_sound(record.chosen) and is_sound(record.rejected)
    if isinstance(record, Judged):
        return is_sound(record.answer) and type(record.is_good) is bool
    if isinstance(record, Steps):
        labelled = len(record.steps) == len(record.labels) > 0
        return labelled and all(type(label) is bool for label in record.labels)
    if isinstance(record, Prompts):
        return bool(record.items)
    return isinstance(record, Text | Drawn)


@settings(max_examples=300, deadline=None)
@given(rows())
def test_any_row_is_read_or_refused(drawn: tuple[str, dict[str, Any]]) -> None:
    check(*drawn)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(rows())
def test_ten_thousand_rows_are_read_or_refused(drawn: tuple[str, dict[str, Any]]) -> None:
    check(*drawn)


@settings(max_examples=100, deadline=None)
@given(rows())
def test_any_row_of_a_file_is_read_or_refused(drawn: tuple[str, dict[str, Any]]) -> None:
    """The same through the reader of lines, which sees surrogates, NaN and NUL first."""
    name, row = drawn
    found, _ = decode_row(json.dumps(row), 0)
    if isinstance(found, RowError):
        assert found.message
        return
    check(name, found)


@pytest.mark.parametrize(
    "row",
    [
        {"text": "\ud800"},
        {"text": None},
        {"text": ["a"]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [[[[]]]]},
        {"messages": "{" * 10_000},
        {"prompt": [], "chosen": {}, "rejected": 1},
        {"input_ids": [1 << 70], "labels": [0], "attention_mask": [1]},
        {"input_ids": [True], "labels": [1]},
    ],
)
def test_odd_rows_break_no_format(row: dict[str, Any]) -> None:
    for name in NAMES:
        check(name, row)


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "method", "name"),
    [
        (None, None, "untyped"),
        (None, "dpo", "dpo"),
        (None, "kto", "kto"),
        (None, "grpo", "prompts"),
        ("chatml.intel", "dpo", "dpo.chatml.intel"),
        ("chatml.intel", "simpo", "dpo.chatml.intel"),
        ("chatml.intel", "kto", "kto.chatml.intel"),
        ("chat_template", "dpo", "dpo.chat_template.default"),
        ("chat_template", "orpo", "orpo.chat_template"),
        ("chat_template", None, "chat_template"),
        ("alpaca:chat", None, "alpaca"),
        ("alpaca:nothing", None, "alpaca:nothing"),
        ("completion.load", None, "completion"),
        ("ebft_opencode.transform", "ebft", "ebft.ebft_opencode.transform"),
        ("my_module.fn", "grpo", "my_module.fn"),
    ],
)
def test_a_type_is_looked_for_under_its_method(
    kind: str | None, method: str | None, name: str
) -> None:
    assert format_name(kind, method) == name


def test_misspelt_names_of_ours_are_no_modules() -> None:
    assert not is_own("alpaca_chat.load_qaa")
    assert not is_own("alpacca")
    assert not is_own("dpo.chatml.intell")
    assert not is_own("no such/name")
    assert is_own("json.loads")
