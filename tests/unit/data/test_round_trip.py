"""What a template prints of thoughts and calls can be read back: nothing of a turn is lost."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.data.conversations import TOOLS, answer, user
from tunesmith.data.instrument import CompiledTemplate
from tunesmith.data.templates import read_named

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


PARSERS: dict[str, tuple[Callable[[str], Parsed], str, str]] = {
    "qwen_25": (qwen, "<|im_start|>assistant\n", "<|im_end|>"),
    "qwen3": (qwen, "<|im_start|>assistant\n", "<|im_end|>"),
    "exaone4": (qwen, "[|assistant|]\n", "[|endofturn|]"),
    "qwen3_5": (qwen3_5, "<|im_start|>assistant\n", "<|im_end|>"),
    "deepseek_v3": (deepseek_v3, "<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
    "jamba": (jamba, "<|bom|><|assistant|>", "<|eom|>"),
    "mistral_v3_tekken": (mistral, "[/INST]", "</s>"),
}
THINKING = {"qwen3", "qwen3_5"}
CALLS_ALONE = {"mistral_v3_tekken"}
"""Templates that print of a turn with calls the calls alone."""


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
    calls = [
        {"id": f"call0000{number}", "type": "function", "function": call}
        for number, call in enumerate(CALLS[:count])
    ]
    text = "" if count and name in CALLS_ALONE else "Let me see."
    turn = answer(text, tool_calls=calls) if calls else answer(text)
    assert said_of(name, turn) == ("", text, CALLS[:count])


@pytest.mark.parametrize("name", sorted(THINKING))
def test_thoughts_are_read_back(name: str) -> None:
    turn = answer("Hello", reasoning_content="First,\n\nthis.")
    assert said_of(name, turn) == ("First,\n\nthis.", "Hello", [])


def test_an_older_thought_is_dropped_and_the_newest_stays() -> None:
    compiled = CompiledTemplate(read_named("qwen3"), SPECIAL, "2024-07-26T00:00:00")
    turns = [user("a"), answer("b", reasoning_content="old"), user("c")]
    text = compiled.render_plain([*turns, answer("d", reasoning_content="new")])
    assert "old" not in text
    assert "<think>\nnew\n</think>\n\nd" in text
