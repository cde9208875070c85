"""What a template prints of thoughts and calls can be read back: nothing of a turn is lost."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError

from tests.unit.data.conversations import TOOLS, answer, user
from tunesmith.data.instrument import CompiledTemplate
from tunesmith.data.templates import TEMPLATE_NAMES, read_named

LETTERS = st.characters(codec="utf-8", exclude_characters="<[")
"""Anything but what opens a mark: text that imitates a mark cannot be told from one."""
NAMES = st.text("abcdefgh_", min_size=1, max_size=6)
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
CALLS = [
    {
        "name": "weather",
        "arguments": {"city": 'Oslo "N"\n</s', "days": [1, 2], "more": {"a": True}},
    },
    {"name": "weather", "arguments": {"city": "Rom é"}},
]
Parsed = tuple[str, str, list[dict[str, Any]]]
"""The thought, the text and the calls of an answer."""


def json_calls(text: str, opening: str, closing: str, key: str = "arguments") -> list[Any]:
    found = re.findall(re.escape(opening) + r"(.*?)" + re.escape(closing), text, re.DOTALL)
    loaded = [json.loads(part) for part in found]
    return [{"name": call["name"], "arguments": call[key]} for call in loaded]


def qwen(text: str) -> Parsed:
    thought, _, rest = text.rpartition("</think>")
    said, _, _ = rest.partition("<tool_call>")
    calls = json_calls(rest, "<tool_call>", "</tool_call>")
    return thought.replace("<think>", "").strip("\n"), said.strip("\n"), calls


def qwen3_5(text: str) -> Parsed:
    thought, _, rest = text.rpartition("</think>")
    said, _, _ = rest.partition("<tool_call>")
    calls = []
    for name, body in re.findall(r"<function=(.*?)>\n(.*?)</function>", rest, re.DOTALL):
        pairs = re.findall(r"<parameter=(.*?)>\n(.*?)\n</parameter>\n", body, re.DOTALL)
        calls.append({"name": name, "arguments": {key: loose(value) for key, value in pairs}})
    return thought.replace("<think>", "").strip("\n"), said.strip("\n"), calls


def loose(value: str) -> Any:
    return json.loads(value) if value.startswith(("[", "{")) else value


def deepseek_v3(text: str) -> Parsed:
    said, _, rest = text.partition("<｜tool▁calls▁begin｜>")
    form = r"<｜tool▁sep｜>(.*?)\n```json\n(.*?)\n```<｜tool▁call▁end｜>"
    pairs = re.findall(form, rest, re.DOTALL)
    return "", said, [{"name": name, "arguments": json.loads(given)} for name, given in pairs]


def jamba(text: str) -> Parsed:
    said, _, rest = text.partition("<tool_calls>")
    calls = json.loads(rest.removesuffix("</tool_calls>")) if rest else []
    return "", said.strip(" "), calls


def mistral(text: str) -> Parsed:
    said, _, rest = text.partition("[TOOL_CALLS]")
    calls = json.loads(rest) if rest else []
    return "", said, [{k: call[k] for k in ("name", "arguments")} for call in calls]


def spaced_mistral(text: str) -> Parsed:
    """A blank opens the answer, one stands behind the mark of calls."""
    return mistral(text.removeprefix(" "))


def command_a(text: str) -> Parsed:
    said, _, _ = text.removeprefix("<|START_RESPONSE|>").partition("<|END_RESPONSE|>")
    _, _, rest = text.partition("<|START_ACTION|>")
    calls = json.loads(rest.removesuffix("<|END_ACTION|>")) if rest else []
    assert [call["tool_call_id"] for call in calls] == [str(n) for n in range(len(calls))]
    found = [{"name": call["tool_name"], "arguments": call["parameters"]} for call in calls]
    return "", "" if rest else said, found


def gemma4(text: str) -> Parsed:
    thought = ""
    if text.startswith("<|channel>thought\n"):
        thought, _, text = text.removeprefix("<|channel>thought\n").partition("\n<channel|>")
    calls = []
    while text.startswith("<|tool_call>call:"):
        call, _, text = text.removeprefix("<|tool_call>call:").partition("<tool_call|>")
        name, _, arguments = call.partition("{")
        calls.append({"name": name, "arguments": json.loads(gemma4_json("{" + arguments))})
    return thought, text.removesuffix("<|tool_response>").removesuffix("<turn|>\n"), calls


def gemma4_json(text: str) -> str:
    """Its quotes and bare keys as those of JSON."""
    pieces = text.split('<|"|>')
    for number in range(0, len(pieces), 2):
        keys = re.sub(r"(\w+):", r'"\1":', pieces[number])
        pieces[number] = keys.replace("None", "null")
    for number in range(1, len(pieces), 2):
        pieces[number] = json.dumps(pieces[number])
    return "".join(pieces)


def bare(text: str) -> Parsed:
    """Calls that stand one after the other with no mark, behind the text in marks of its own."""
    said, _, rest = text.removeprefix("<|python_start|>").rpartition("<|python_end|>")
    calls = []
    while rest.startswith("{"):
        call, end = json.JSONDecoder().raw_decode(rest)
        calls.append({"name": call["name"], "arguments": call["parameters"]})
        rest = rest[end:]
    return "", said + rest, calls


PARSERS: dict[str, tuple[Callable[[str], Parsed], str, str]] = {
    "qwen_25": (qwen, "<|im_start|>assistant\n", "<|im_end|>"),
    "qwen3": (qwen, "<|im_start|>assistant\n", "<|im_end|>"),
    "exaone4": (qwen, "[|assistant|]\n", "[|endofturn|]"),
    "qwen3_5": (qwen3_5, "<|im_start|>assistant\n", "<|im_end|>"),
    "deepseek_v3": (deepseek_v3, "<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
    "jamba": (jamba, "<|bom|><|assistant|>", "<|eom|>"),
    "mistral_v3_tekken": (mistral, "[/INST]", "</s>"),
    "mistral_v2v3": (spaced_mistral, "[/INST]", "</s>"),
    "command_a_tool_use": (command_a, "<|CHATBOT_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
    "command_a_rag": (command_a, "<|CHATBOT_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
    "llama4": (bare, "<|header_start|>assistant<|header_end|>\n\n", "<|eot|>"),
    "llama3_2_vision": (bare, "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"),
}
PARSERS |= dict.fromkeys(("gemma4", "gemma4_unified"), (gemma4, "<|turn>model\n", ""))
THINKING = {"qwen3", "qwen3_5"}
THINKS_BEFORE_CALLS = {"gemma4", "gemma4_unified"}
"""Templates that print the thoughts of turns with calls alone."""
CALLS_ALONE = {
    *("mistral_v3_tekken", "mistral_v2v3"),
    *("command_a_tool_use", "command_a_rag", "llama3_2_vision"),
}
"""Templates that print of a turn with calls the calls alone."""

LOOSE = {"qwen3_5"}
"""Templates that print texts as they are, so that the text `1` and the number look alike."""

ONE_CALL = {"llama3_2_vision"}
"""Templates that refuse a turn of several calls."""

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(LETTERS, max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def turn_of(text: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
    """An answer of a text and calls."""
    made = [
        {"id": f"call0000{number}", "type": "function", "function": call}
        for number, call in enumerate(calls)
    ]
    return answer(text, tool_calls=made) if made else answer(text)


def said_of(name: str, turn: dict[str, Any]) -> Parsed:
    """The last answer of the template's text, read back."""
    compiled = CompiledTemplate(read_named(name), SPECIAL, "2024-07-26T00:00:00")
    text = compiled.render_plain([user("Hi"), turn], TOOLS)
    parse, opening, closing = PARSERS[name]
    body = text[text.rindex(opening) + len(opening) :]
    return parse(body[: body.rindex(closing)])


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_calls_and_text_are_read_back(name: str, count: int) -> None:
    text = "" if count and name in CALLS_ALONE else "Let me see."
    turn = turn_of(text, CALLS[:count])
    if count > 1 and name in ONE_CALL:
        with pytest.raises(TemplateError, match="one tool call at a time"):
            said_of(name, turn)
    else:
        assert said_of(name, turn) == ("", text, CALLS[:count])


def prints_calls(name: str) -> bool:
    compiled = CompiledTemplate(read_named(name), SPECIAL, "2024-07-26T00:00:00")
    try:
        return "Rom é" in compiled.render_plain([user("Hi"), turn_of("", CALLS[1:])], TOOLS)
    except TemplateError:
        return False


def test_every_template_that_prints_calls_is_read_back() -> None:
    assert {name for name in TEMPLATE_NAMES if prints_calls(name)} == set(PARSERS)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(set(PARSERS) - LOOSE)), st.dictionaries(NAMES, VALUES, max_size=4))
def test_any_arguments_are_read_back(name: str, arguments: dict[str, Any]) -> None:
    calls = [{"name": "weather", "arguments": arguments}]
    assert said_of(name, turn_of("", calls)) == ("", "", calls)


@pytest.mark.parametrize("name", sorted(THINKING))
def test_thoughts_are_read_back(name: str) -> None:
    turn = answer("Hello", reasoning_content="First,\n\nthis.")
    assert said_of(name, turn) == ("First,\n\nthis.", "Hello", [])


@pytest.mark.parametrize("name", sorted(THINKING | THINKS_BEFORE_CALLS))
def test_thoughts_before_calls_are_read_back(name: str) -> None:
    turn = turn_of("Let me see.", CALLS) | {"reasoning_content": "First,\n\nthis."}
    assert said_of(name, turn) == ("First,\n\nthis.", "Let me see.", CALLS)


def test_an_older_thought_is_dropped_and_the_newest_stays() -> None:
    compiled = CompiledTemplate(read_named("qwen3"), SPECIAL, "2024-07-26T00:00:00")
    turns = [user("a"), answer("b", reasoning_content="old"), user("c")]
    text = compiled.render_plain([*turns, answer("d", reasoning_content="new")])
    assert "old" not in text
    assert "<think>\nnew\n</think>\n\nd" in text
