"""Turns in parts, with spans, weights and thoughts: what becomes of their texts."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith.config.data import DataSection, DatasetEntry
from tunesmith.data.formats.chat import read_chat
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.records import FieldSpan, Message, RowError

DETAIL = FormatOptions(detail_key="detail")
SPLIT = FormatOptions(split_thinking=True)


def answer(turn: dict[str, Any], options: FormatOptions | None = None) -> Message:
    """The record's answer, given the row's last turn."""
    row = {"messages": [{"role": "user", "content": "u"}, {"role": "assistant", **turn}]}
    return read_chat(row, options or FormatOptions()).messages[-1]


def text(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **more}


# --- parts ----------------------------------------------------------------------------------------


def test_parts_without_flags_are_one_text() -> None:
    read = answer({"content": [text("a"), {"type": "text", "value": "b"}, {"content": "c"}]})
    assert read.fields["content"] == "abc"
    assert read.spans == ()
    assert read.train is None


def test_flags_and_weights_of_parts_become_spans() -> None:
    parts = [text("ab", train=False), text("c"), text("de", weight=0.5), text("f", loss_weight=2)]
    read = answer({"content": parts})
    assert read.fields["content"] == "abcdef"
    assert read.spans == (
        FieldSpan("content", 0, 2, 0.0),
        FieldSpan("content", 2, 3, 1.0),
        FieldSpan("content", 3, 5, 0.5),
        FieldSpan("content", 5, 6, 2.0),
    )


def test_a_flag_wins_over_a_weight() -> None:
    assert answer({"content": [text("a", train=True, weight=0)]}).spans[0].weight == 1.0


def test_parts_of_reasoning_and_calls_go_where_templates_look_for_them() -> None:
    call = {"type": "tool_call", "value": '{"name": "f", "arguments": {"x": 1}}'}
    read = answer({"content": [{"type": "reasoning", "value": "r"}, text("a"), call]})
    assert read.fields["reasoning_content"] == "r"
    assert read.fields["content"] == "a"
    assert read.fields["tool_calls"] == [{"name": "f", "arguments": {"x": 1}}]


def test_reasoning_has_spans_of_its_own() -> None:
    read = answer({"content": "a", "reasoning_content": [text("r"), text("s", train=False)]})
    assert read.fields["reasoning_content"] == "rs"
    assert read.spans == (
        FieldSpan("reasoning_content", 0, 1, 1.0),
        FieldSpan("reasoning_content", 1, 2, 0.0),
    )


@pytest.mark.parametrize(
    ("part", "field", "says"),
    [
        ("a", "messages[1].content[0]", "the part is a text"),
        ({"type": "image"}, "messages[1].content[0].type", "images are not built"),
        ({"type": "text"}, "messages[1].content[0].text", "is null"),
        (text("a", train="yes"), "messages[1].content[0].train", "is a text"),
        (text("a", weight=-1), "messages[1].content[0].weight", "a number (-1)"),
        (text("a", weight=True), "messages[1].content[0].weight", "true or false"),
        ({"type": "tool_call", "value": "{"}, "messages[1].content[0].value", "no JSON"),
    ],
)
def test_broken_parts(part: Any, field: str, says: str) -> None:
    with pytest.raises(RowError) as error:
        answer({"content": [part]})
    assert error.value.field == field
    assert says in error.value.message


# --- spans and weights of turns -------------------------------------------------------------------


def test_spans_of_the_content_are_ordered_and_end_behind_their_last_character() -> None:
    detail = [
        {"begin_offset": 2, "end_offset": 3, "train": False},
        {"begin_offset": 0, "end_offset": 1, "train": True},
    ]
    read = answer({"content": "abcdef", "detail": detail}, DETAIL)
    assert read.spans == (FieldSpan("content", 0, 2, 1.0), FieldSpan("content", 2, 4, 0.0))
    assert "detail" not in read.fields


def test_without_the_setting_spans_are_a_key_like_any_other() -> None:
    detail = [{"begin_offset": 0, "end_offset": 0, "train": True}]
    read = answer({"content": "a", "detail": detail})
    assert read.spans == ()
    assert read.fields["detail"] == detail


@pytest.mark.parametrize(
    ("detail", "says"),
    [
        ("0-3", "not a list of spans"),
        ([3], "the span is a number"),
        ([{"begin_offset": "0", "end_offset": 1, "train": True}], "want a whole number"),
        ([{"begin_offset": 0, "end_offset": 1}], "does not say whether it trains"),
        ([{"begin_offset": 0, "end_offset": 6, "train": True}], "has 6 characters"),
        ([{"begin_offset": 3, "end_offset": 2, "train": True}], "begins at 3 and ends at 2"),
        (
            [
                {"begin_offset": 0, "end_offset": 2, "train": True},
                {"begin_offset": 2, "end_offset": 3, "train": False},
            ],
            "0 to 2 and 2 to 3 overlap",
        ),
    ],
)
def test_broken_spans(detail: Any, says: str) -> None:
    with pytest.raises(RowError) as error:
        answer({"content": "abcdef", "detail": detail}, DETAIL)
    assert error.value.field.startswith("messages[1].detail")
    assert says in error.value.message


def test_spans_beside_flagged_parts_or_without_a_content() -> None:
    detail = [{"begin_offset": 0, "end_offset": 0, "train": True}]
    with pytest.raises(RowError, match="and so do these spans"):
        answer({"content": [text("a", train=True)], "detail": detail}, DETAIL)
    with pytest.raises(RowError, match="content that is missing"):
        answer({"tool_calls": [{"name": "f"}], "detail": detail}, DETAIL)


def test_a_turns_weight_is_a_wish_and_a_flag_wins_over_it() -> None:
    options = FormatOptions(weight_key="w", training_key="train")
    heavy, none = (
        answer({"content": "a", "w": 0.5}, options),
        answer({"content": "a", "w": 0}, options),
    )
    assert (heavy.train, heavy.weight) == (True, 0.5)
    assert (none.train, none.weight) == (False, 0.0)
    flagged = answer({"content": "a", "w": 2, "train": False}, options)
    assert (flagged.train, flagged.weight) == (False, 2.0)
    assert "w" not in heavy.fields
    with pytest.raises(RowError, match="is a text"):
        answer({"content": "a", "w": "1"}, options)


# --- reasoning ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "thought", "rest"),
    [
        ("<think>\n r \n</think>\n\n a ", "r", "a "),
        (" \n<reasoning>r</reasoning>a", "r", "a"),
        (
            "<|begin_of_thought|>r<|end_of_thought|>"
            "\n<|begin_of_solution|> a <|end_of_solution|>\n",
            "r",
            "a",
        ),
        ("<think></think>a", "", "a"),
        ("<think>r</think>", "r", ""),
    ],
)
def test_a_thought_is_taken_out_of_the_content(content: str, thought: str, rest: str) -> None:
    fields = answer({"content": content}, SPLIT).fields
    assert (fields["reasoning_content"], fields["content"]) == (thought, rest)


@pytest.mark.parametrize("content", ["a", "<think>r", "a <think>r</think> b", "r</think>a"])
def test_nothing_is_lost_where_no_thought_opens_the_content(content: str) -> None:
    fields = answer({"content": content}, SPLIT).fields
    assert fields == {"role": "assistant", "content": content}


def test_a_thought_stays_in_the_content_unless_it_is_asked_for() -> None:
    fields = answer({"content": "<think>r</think>a"}).fields
    assert fields == {"role": "assistant", "content": "<think>r</think>a"}
    own = answer({"content": "<think>r</think>a", "reasoning_content": "s"}, SPLIT).fields
    assert (own["reasoning_content"], own["content"]) == ("s", "<think>r</think>a")


def test_only_answers_are_split() -> None:
    row = {"messages": [{"role": "user", "content": "<think>r</think>u"}]}
    assert read_chat(row, SPLIT).messages[0].fields["content"] == "<think>r</think>u"


def test_spans_follow_the_texts_that_are_split() -> None:
    parts = [text("<think>r"), text("s</think> a", train=False), text("b")]
    read = answer({"content": parts}, SPLIT)
    assert read.fields["reasoning_content"] == "rs"
    assert read.fields["content"] == "ab"
    assert read.spans == (
        FieldSpan("reasoning_content", 0, 1, 1.0),
        FieldSpan("reasoning_content", 1, 2, 0.0),
        FieldSpan("content", 0, 1, 0.0),
        FieldSpan("content", 1, 2, 1.0),
    )


def test_the_thoughts_key_in_the_template() -> None:
    options = FormatOptions(split_thinking=True, thinking_key="thinking")
    assert answer({"content": "<think>r</think>a"}, options).fields["thinking"] == "r"


# --- beside the turns -----------------------------------------------------------------------------


def test_a_rows_system_text_opens_turns_that_have_none() -> None:
    turns = [{"role": "user", "content": "u"}]
    options = FormatOptions(field_system="prompt")
    read = read_chat({"messages": turns, "prompt": "s"}, options).messages
    assert [message.role for message in read] == ["system", "user"]
    assert read[0].fields["content"] == "s"
    own = [{"role": "system", "content": "own"}, *turns]
    assert len(read_chat({"messages": own, "prompt": "s"}, options).messages) == 2
    assert len(read_chat({"messages": turns, "prompt": ""}, options).messages) == 1
    assert len(read_chat({"messages": turns, "prompt": "s"}, FormatOptions()).messages) == 1
    dropped = FormatOptions(field_system="prompt", drop_system_message=True)
    assert len(read_chat({"messages": turns, "prompt": "s"}, dropped).messages) == 1


@pytest.mark.parametrize("value", [{"thinking": False}, '{"thinking": false}'])
def test_a_rows_own_variables_for_the_template(value: Any) -> None:
    row = {"messages": [{"role": "user", "content": "u"}], "chat_template_kwargs": value}
    assert read_chat(row, FormatOptions()).variables == {"thinking": False}


@pytest.mark.parametrize("value", [["thinking"], {"tools": []}])
def test_broken_variables(value: Any) -> None:
    row = {"messages": [{"role": "user", "content": "u"}], "chat_template_kwargs": value}
    with pytest.raises(RowError) as error:
        read_chat(row, FormatOptions())
    assert error.value.field.startswith("chat_template_kwargs")


# --- the keys of a data set's entry ---------------------------------------------------------------


def keyed(turn: dict[str, Any], **keys: Any) -> Message:
    return answer(turn, FormatOptions.of(DatasetEntry(path="x", **keys), DataSection()))


def test_every_key_of_an_entry_reaches_the_turns() -> None:
    spans = [{"begin_offset": 0, "end_offset": 0, "train": True}]
    detailed = keyed({"content": "ab", "d": spans}, message_field_training_detail="d")
    assert detailed.spans == (FieldSpan("content", 0, 1, 1.0),)
    assert keyed({"content": "a", "w": 3}, message_field_weight="w").weight == 3.0
    split = keyed({"content": "<think>r</think>a"}, split_thinking=True)
    assert split.fields["reasoning_content"] == "r"
    moved = keyed({"content": "a", "why": "r"}, field_thinking="why")
    assert moved.fields == {"role": "assistant", "content": "a", "reasoning_content": "r"}
    named = keyed({"content": "a", "reasoning_content": "r"}, template_thinking_key="thoughts")
    assert named.fields == {"role": "assistant", "content": "a", "thoughts": "r"}
    both = keyed({"content": "<think>r</think>a"}, split_thinking=True, template_thinking_key="t")
    assert both.fields["t"] == "r"
    options = FormatOptions.of(DatasetEntry(path="x", field_system="s"), DataSection())
    row = {"messages": [{"role": "user", "content": "u"}], "s": "Be kind."}
    assert read_chat(row, options).messages[0].role == "system"
