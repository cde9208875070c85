"""Where turns of tool calls end, whether the tokenizer has a token for that or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.unit.data.chats import SOURCE, SPECIALS, chat, codes, make_tokenizer, settings, shown
from tunesmith.data.records import Conversation, RowError
from tunesmith.data.render import Renderer

CALL = {"id": "call12345", "type": "function"}
FUNCTION = {"name": "get_w", "arguments": {"city": "Rome"}}
BARE = ("<s>", "</s>", "<|pad|>")
CALLS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for c in m.tool_calls %}<call>{{ c.function.arguments.city }}!</call>{% endfor %}"
    "{% if not m.tool_calls %}</end>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
"""Calls of which nothing ends the turn but the end of the last call."""


def calling(*, calls: int = 1) -> Conversation:
    turn = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{**CALL, "function": FUNCTION}] * calls,
    }
    answer = {"role": "tool", "content": "sunny", "name": "get_w", "tool_call_id": "call12345"}
    return chat(("user", "weather?"), turn, answer, ("assistant", "Sunny."))


def renderer(tmp_path: Path, template: str, specials: Sequence[str] = BARE) -> Renderer:
    return Renderer(settings(make_tokenizer(tmp_path, specials=specials), template, eos="</s>"))


@pytest.mark.parametrize(
    ("template", "end"),
    [
        ("qwen_25", '"}}\n</tool_call><|im_end|>'),
        ("qwen3_5", "\n</parameter>\n</function>\n</tool_call><|im_end|>"),
        ("jamba", '"}}\n]</tool_calls><|eom|>'),
        ("llama4", '"}}<|eot|>'),
        (
            "deepseek_v3",
            '"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>',
        ),
        ("exaone4", '"}}</tool_call>[|endofturn|]'),
        ("gemma4", '<|"|>}<tool_call|><|tool_response>'),
    ],
)
def test_calls_train_to_the_end_of_their_turn_whatever_tokens_it_is(
    tmp_path: Path, template: str, end: str
) -> None:
    made = renderer(tmp_path, template)
    text = shown(made, calling())[0]
    assert f"Rome{end}⟧" in text
    assert "response:get_w⟧" not in text
    assert "no-end-of-turn" not in codes(made.render(calling(), SOURCE))


def test_an_end_of_turn_that_is_no_token_does_not_train_where_ends_do_not(tmp_path: Path) -> None:
    folder = make_tokenizer(tmp_path, specials=BARE)
    made = Renderer(settings(folder, "qwen_25", eos="</s>", train_on_eos="none"))
    assert 'Rome"}}\n</tool_call>⟧<|im_end|>' in shown(made, calling())[0]


def test_calls_whose_end_cannot_be_found_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(RowError, match=r"'!</call><' follows the last argument") as caught:
        renderer(tmp_path, CALLS).render(calling(calls=2), SOURCE)
    assert "eot_tokens" in caught.value.fix


def test_the_end_of_a_call_that_others_follow_ends_no_turn(tmp_path: Path) -> None:
    """``</call>`` is the only special token behind the arguments, and stands between calls too."""
    made = renderer(tmp_path, CALLS, (*BARE, "</call>"))
    assert "⟦<call>Rome!</call><call>Rome!</call>⟧<tool>" in shown(made, calling(calls=2))[0]


def test_a_token_of_the_end_of_turn_still_ends_calls(tmp_path: Path) -> None:
    made = renderer(tmp_path, "qwen_25", SPECIALS)
    assert 'Rome"}}\n</tool_call><|im_end|>⟧' in shown(made, calling())[0]
