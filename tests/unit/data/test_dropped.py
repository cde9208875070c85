"""What a row holds and the template does not print: told, or refused, never lost in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.data.chats import SOURCE, chat, make_tokenizer, settings
from tunesmith.data.formats.chat import read_chat
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.records import Conversation, RowError
from tunesmith.data.render import Renderer

TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}
THOUGHT: dict[str, Any] = {"role": "assistant", "content": "yes", "reasoning_content": "hm"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def dropped(made: Renderer, record: Conversation) -> list[str]:
    lints = made.render(record, SOURCE).lints
    return [lint.message for lint in lints if lint.code == "dropped-field"]


def test_reasoning_that_the_template_does_not_print_is_told(folder: Path) -> None:
    made = Renderer(settings(folder, "chatml"))
    (message,) = dropped(made, chat(("user", "u"), THOUGHT))
    assert "`reasoning_content`" in message
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "yes"}]
    turns = [{"role": "user", "content": "u"}, {"role": "assistant", "content": parts}]
    (message,) = dropped(made, read_chat({"messages": turns}, FormatOptions()))
    assert "`reasoning_content`" in message
    named = Renderer(settings(folder, "chatml", thinking_key="thought"))
    renamed = {"role": "assistant", "content": "yes", "thought": "hm"}
    (message,) = dropped(named, chat(("user", "u"), renamed))
    assert "`thought`" in message


def test_reasoning_that_is_printed_where_it_trains_is_not(folder: Path) -> None:
    row = chat(("user", "u"), THOUGHT, ("user", "v"), THOUGHT)
    assert dropped(Renderer(settings(folder, "qwen3")), row) == []
    assert len(dropped(Renderer(settings(folder, "qwen3", history="whole")), row)) == 1
    masked = chat(("user", "u"), {**THOUGHT, "train": False}, ("user", "v"), ("assistant", "a"))
    assert dropped(Renderer(settings(folder, "chatml")), masked) == []


def test_tools_that_the_template_does_not_print_are_told_once_a_row(folder: Path) -> None:
    row = chat(("user", "u"), ("assistant", "a"), ("user", "v"), ("assistant", "b"), tools=(TOOL,))
    assert dropped(Renderer(settings(folder, "chatml")), row) == [
        "the template does not print the row's tools"
    ]
    for template in ("qwen_25", "qwen3"):
        assert dropped(Renderer(settings(folder, template)), row) == []


def test_a_thought_split_for_a_template_that_does_not_print_it_is_an_error(folder: Path) -> None:
    turns = [
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "<think>hm</think>yes"},
    ]
    row = read_chat({"messages": turns}, FormatOptions(split_thinking=True))
    with pytest.raises(RowError, match=r"`split_thinking`.*`reasoning_content`") as caught:
        Renderer(settings(folder, "chatml", split_thinking=True)).render(row, SOURCE)
    assert caught.value.field == "messages[1]"
    assert Renderer(settings(folder, "qwen3", split_thinking=True)).render(row, SOURCE).samples
    plain = chat(("user", "u"), ("assistant", "a"))
    assert Renderer(settings(folder, "chatml", split_thinking=True)).render(plain, SOURCE).samples
