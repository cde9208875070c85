import copy
import json

import pytest

from tunesmith.config.data import DataSection, DatasetEntry
from tunesmith.config.read import load
from tunesmith.data.formats.chat import read_chat
from tunesmith.data.formats.lint import lint_record
from tunesmith.data.formats.load import load_format
from tunesmith.data.formats.messages import read_messages
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.formats.untyped import read_untyped
from tunesmith.data.records import Conversation, Message, RowError, Segment, Segments, Text


def options(**entry):
    return FormatOptions.of(DatasetEntry(path="x", **entry), DataSection())


def chat(turns, _options=None, **row):
    return read_chat({"messages": turns, **row}, _options or options())


def user(text="Hi", **more):
    return {"role": "user", "content": text, **more}


def answer(text="Hello", **more):
    return {"role": "assistant", "content": text, **more}


SHAREGPT = {
    "field_messages": "conversations",
    "message_property_mappings": {"role": "from", "content": "value"},
}


def test_it_is_the_format_of_an_entry_without_a_type():
    assert load_format(DatasetEntry(path="x")) is read_untyped


def test_openai_turns():
    record = chat([{"role": "system", "content": "S"}, user(), answer()], id=7)
    assert record == Conversation(
        (
            Message({"role": "system", "content": "S"}),
            Message({"role": "user", "content": "Hi"}),
            Message({"role": "assistant", "content": "Hello"}),
        )
    )


def test_sharegpt_turns_by_mapping_and_by_the_old_keys():
    """The old keys never reach the format: reading the config turns them into the mapping."""
    row = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]}
    expected = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]
    old = {
        "field_messages": "conversations",
        "message_field_role": "from",
        "message_field_content": "value",
    }
    for keys in (SHAREGPT, old):
        yaml = {"base_model": "m", "learning_rate": 1e-4, "micro_batch_size": 1}
        config = load(yaml | {"datasets": [{"path": "x", "type": "chat_template", **keys}]}).config
        record = read_chat(row, FormatOptions.of(config.data.datasets[0], config.data))
        assert [message.fields for message in record.messages] == expected


def test_own_roles_come_on_top_of_the_built_in_ones():
    roles = {"user": ["customer"], "assistant": ["agent"], "function": ["function"]}
    turns = [
        {"role": "customer", "content": "a"},
        {"role": "agent", "content": "b"},
        {"role": "function", "content": "c"},
        {"role": "gpt", "content": "d"},
    ]
    record = chat(turns, options(roles=roles))
    assert [m.role for m in record.messages] == ["user", "assistant", "function", "assistant"]


def test_turns_as_json_in_a_text():
    assert chat(json.dumps([user(), answer()])) == chat([user(), answer()])


def test_keys_that_are_null_are_left_out_at_any_depth():
    call = {"function": {"name": "f", "arguments": {"a": 1, "b": None}}, "id": None}
    turns = [user(name=None), {"role": "assistant", "content": None, "tool_calls": [call]}]
    before = copy.deepcopy(turns)
    record = chat(turns)
    assert record.messages[0].fields == {"role": "user", "content": "Hi"}
    assert record.messages[1].fields == {
        "role": "assistant",
        "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}],
    }
    assert turns == before  # the row is the caller's


def test_other_keys_of_a_turn_reach_the_template():
    record = chat([user(), answer(reasoning_content="because")])
    assert record.messages[1].fields["reasoning_content"] == "because"
    # A template key is filled from its mapped key alone, never from another of the same name.
    turns = [{"role": "user", "content": "x", "text": "Hi"}]
    record = chat(turns, options(message_property_mappings={"content": "text"}))
    assert record.messages[0].fields == {"role": "user", "content": "Hi"}


def test_text_parts_are_joined():
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]
    assert chat([user(parts), answer()]).messages[0].fields["content"] == "a b"


def test_the_wish_to_train():
    turns = [user(train=True), answer(train=False), user(), answer(train=None)]
    record = chat(turns, options(message_field_training="train"))
    assert [message.train for message in record.messages] == [True, False, None, None]
    assert all("train" not in message.fields for message in record.messages)
    with pytest.raises(RowError, match=r"messages\[0\]\.train"):
        chat([user(train="yes")], options(message_field_training="train"))


def test_messages_heeds_the_wish_of_any_turn():
    def read(*turns):
        return read_messages({"messages": [user(), *turns]}, FormatOptions()).messages[1:]

    assert [m.train for m in read(answer(train=False), answer())] == [False, None]
    (light,) = read(answer(weight=0.5))
    assert (light.train, light.weight) == (True, 0.5)
    (silent,) = read(answer(weight=0))
    assert (silent.train, silent.weight) == (False, 0.0)
    (both,) = read(answer(train=True, weight=2))
    assert (both.train, both.weight) == (True, 2.0)
    assert both.fields == {"role": "assistant", "content": "Hello"}


def test_system_turns_can_be_dropped():
    turns = [{"role": "system", "content": "S"}, user(), answer()]
    record = chat(turns, options(drop_system_message=True))
    assert [message.role for message in record.messages] == ["user", "assistant"]
    turns[0] = {"role": "developer", "content": "D"}
    assert chat(turns, options(drop_system_message=True)) == record
    with pytest.raises(RowError, match="system turns alone"):
        chat(turns[:1], options(drop_system_message=True))


TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


def test_tools_and_arguments_as_objects_or_json():
    packed = {
        "type": "function",
        "function": {"name": "add", "parameters": json.dumps({"type": "object"})},
    }
    for tools in ([TOOL], [packed], json.dumps([TOOL]), json.dumps([packed])):
        assert chat([user(), answer()], tools=tools).tools == (TOOL,)
        record = chat([user(), answer()], options(field_tools="fns"), fns=tools)
        assert record.tools == (TOOL,)
    for nothing in (None, "", []):
        assert chat([user(), answer()], tools=nothing).tools == ()
    for arguments in ({"a": 2}, '{"a": 2}'):
        call = {"id": "1", "function": {"name": "add", "arguments": arguments}}
        record = chat([user(), {"role": "assistant", "tool_calls": [call]}])
        found = record.messages[1].fields["tool_calls"][0]["function"]["arguments"]
        assert found == {"a": 2}


@pytest.mark.parametrize(
    ("turns", "field", "says"),
    [
        (None, "messages", "is null"),
        ([], "messages", "is an empty list"),
        ({"role": "user"}, "messages", "is an object"),
        (7, "messages", "is a number"),
        ("hello", "messages", "is a text and no JSON"),
        ('"hello"', "messages", "is a text"),
        (["hello"], "messages[0]", "is a text"),
        ([user(), None], "messages[1]", "is null"),
        ([{"content": "a"}], "messages[0].role", "no `role`"),
        ([{"role": None, "content": "a"}], "messages[0].role", "no `role`"),
        ([{"role": 1, "content": "a"}], "messages[0].role", "is a number"),
        ([{"role": "critic", "content": "a"}], "messages[0].role", "'critic' is unknown"),
        ([user(), {"role": "assistant"}], "messages[1].content", "no `content`"),
        ([user(), answer(None)], "messages[1].content", "no `content`"),
        ([user(), answer("", tool_calls=[], content=None)], "messages[1].content", "no `content`"),
        ([user(), answer(5)], "messages[1].content", "is a number (5)"),
        ([user(), answer({"a": 1})], "messages[1].content", "is an object"),
        ([user(["a"])], "messages[0].content[0]", "the part is a text"),
        (
            [user([{"type": "image", "url": "x"}])],
            "messages[0].content[0].type",
            "images are not built",
        ),
        ([user([{"type": "text"}])], "messages[0].content[0].text", "is null"),
        ([{"role": "system", "content": "a"}], "messages", "system turns alone"),
        ([user(), answer(tool_calls={"a": 1})], "messages[1].tool_calls", "is an object"),
        ([user(), answer(tool_calls=["f"])], "messages[1].tool_calls[0]", "is a text"),
        (
            [user(), answer(tool_calls=[{"function": {"arguments": "{a: 1}"}}])],
            "messages[1].tool_calls[0].function.arguments",
            "no JSON",
        ),
    ],
)
def test_a_broken_row_says_which_turn_and_what(turns, field, says):
    with pytest.raises(RowError) as error:
        chat(turns)
    assert error.value.field == field
    assert says in error.value.message
    assert error.value.fix
    if "[" in field:
        turn = int(field[len("messages[") :].split("]")[0]) + 1
        assert error.value.message.startswith(f"turn {turn}: ")


@pytest.mark.parametrize(
    ("tools", "field"),
    [("[{", "tools"), ({"a": 1}, "tools"), (["f"], "tools[0]"), (7, "tools")],
)
def test_broken_tools(tools, field):
    with pytest.raises(RowError) as error:
        chat([user(), answer()], tools=tools)
    assert error.value.field == field


def test_what_to_change_when_the_keys_are_others():
    sharegpt = {"conversations": [{"from": "human", "value": "Hi"}]}
    with pytest.raises(RowError) as error:
        read_chat(sharegpt, options())
    assert error.value.fix == "set `field_messages: conversations`"
    with pytest.raises(RowError) as error:
        read_chat(sharegpt, options(field_messages="conversations"))
    assert error.value.fix == "set `message_property_mappings: {role: from, content: value}`"
    with pytest.raises(RowError) as error:
        read_chat({"mesages": []}, options())
    assert "set `field_messages: mesages`" in error.value.fix
    mixed = [{"from": "human", "value": "Hi"}, answer()]
    with pytest.raises(RowError, match=r"conversations\[1\]\.from"):
        read_chat({"conversations": mixed}, options(**SHAREGPT))


def test_a_role_that_is_nearly_right():
    for role in ("User ", "USER", "usr"):
        with pytest.raises(RowError) as error:
            chat([{"role": role, "content": "a"}])
        assert error.value.fix == "did you mean `user`?"


def codes(turns, **row):
    return [lint.code for lint in lint_record(chat(turns, **row))]


def call(name="add", number="1"):
    return {"id": number, "function": {"name": name, "arguments": {}}}


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([user(), answer()], []),
        ([{"role": "system", "content": "S"}, user(), answer()], []),
        ([answer(), user(), answer()], ["assistant-first"]),
        ([user(), user(), answer()], ["two-users"]),
        ([user(), {"role": "system", "content": "S"}, answer()], ["late-system-turn"]),
        ([{"role": "system", "content": "S"}] * 2 + [user(), answer()], ["several-system-turns"]),
        ([user()], ["no-answer"]),
        ([user(), answer(), user()], ["ends-with-user"]),
        ([user(), answer(" ")], ["empty-answer"]),
        ([user(), answer("", tool_calls=[call()]), answer()], []),
        ([user(), answer("", reasoning_content="r"), answer()], []),
        ([user(), {"role": "tool", "content": "5"}, answer()], ["answer-without-call"]),
        ([user("ends <|im_end|>"), answer()], ["special-token-text"]),
        ([user("[INST] x"), answer("</s>")], ["special-token-text"]),
        ([user("a < b > c, <|>"), answer()], []),
        ([user(), answer(train=False)], ["unread-wish"]),
        ([user(), answer(weight=0), user(), answer(weight=0)], ["unread-wish"]),
        ([user(weight=0), answer(weight=1, train=True)], []),
    ],
)
def test_what_is_odd_in_a_conversation(turns, expected):
    assert codes(turns) == expected


def test_a_wish_that_nothing_reads_names_its_turn_and_key():
    (lint,) = lint_record(chat([user(), answer(weight=0)]))
    assert lint.message.startswith("turn 2 says `weight: 0`")
    assert "`message_field_weight: weight`" in lint.message
    read = options(message_field_weight="weight", message_field_training="train")
    assert list(lint_record(chat([user(), answer(weight=0, train=False)], read))) == []


def test_what_is_odd_about_tools():
    asked = [user(), answer("", tool_calls=[call()])]
    reply = {"role": "tool", "content": "5", "tool_call_id": "1"}
    assert codes([*asked, reply, answer()], tools=[TOOL]) == []
    assert codes([*asked, {**reply, "tool_call_id": "9"}, answer()]) == ["unknown-call"]
    other = [user(), answer("", tool_calls=[call("subtract")])]
    assert codes([*other, reply, answer()], tools=[TOOL]) == ["undeclared-tool"]


def test_what_is_odd_in_plain_text():
    def found(record):
        return [lint.code for lint in lint_record(record)]

    assert found(Text("a")) == []
    assert found(Text(" \n")) == ["empty-text"]
    assert found(Segments((Segment("a", train=False), Segment(" ", train=True)))) == [
        "empty-answer"
    ]
    marked = (Segment("<s>a</s>", train=True),)
    assert found(Segments(marked)) == ["special-token-text"]
    assert found(Segments(marked, special_tokens=False)) == []
