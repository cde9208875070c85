"""Every named template prints what its model's own does, byte by byte.

`rendered.json` holds what the models' own templates printed (null: they refused the conversation);
text of more than 1,200 characters stands there as its hash.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import jinja2
import pytest

from tests.unit.data.conversations import CONVERSATIONS, TOOLS, answer, result, system, user
from tunesmith.data.instrument import CompiledTemplate
from tunesmith.data.templates import TEMPLATE_NAMES, read_named

LONG = 1200
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
NOW = "2024-07-26T00:00:00"


@cache
def own() -> dict[str, dict[str, str | None]]:
    path = Path(__file__).parent / "rendered.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


def ours(name: str, conversation: str, *, prompt: bool) -> str | None:
    messages, tools, variables = CONVERSATIONS[conversation]
    try:
        text = compiled(name).render_plain(messages, tools, variables, prompt=prompt)
    except (jinja2.TemplateError, TypeError):
        return None
    return shortened(text)


def shortened(text: str) -> str:
    return text if len(text) < LONG else "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@cache
def compiled(name: str) -> CompiledTemplate:
    return CompiledTemplate(read_named(name), SPECIAL, NOW)


_TOOLS = {"tools", "tools + prompt"}
_CALL = {"call", "call + prompt"}
_PLAIN = set(CONVERSATIONS) - {"tools", "call"}

DROPPED = {
    "alpaca": _TOOLS,
    "command_a": _TOOLS | _CALL,
    "deepseek_v2": _TOOLS,
    "falcon_h1": _TOOLS | _CALL,
    "metharme": _TOOLS,
    "phi_3": _TOOLS,
    "phi_35": _TOOLS,
    "phi_4": _TOOLS,
}
"""The model's own leaves tools or turns out without a word; ours refuse them."""

OPENED = {
    "command_a": _PLAIN,
    "command_a_rag": set(CONVERSATIONS),
    "command_a_tool_use": set(CONVERSATIONS),
}
"""The model's own opens another answer although none is asked for."""

LOST_SYSTEM = {
    name: {"system", "system + prompt"} for name in ("mistral_v2v3", "mistral_v3_tekken", "pixtral")
}
"""The model's own prints the system text in front of the last user turn only where no answer
follows it: a served model sees it, one that trains on answers would not."""

REFUSED = {"deepseek_v3": _TOOLS | _CALL}
"""The model's own takes the arguments of calls as text alone; ours print objects as JSON."""

PROMPTED = {
    "alpaca": {"question"},
    "phi_3": {f"{name} + prompt" for name in _PLAIN - {"question"}} | {"question", "call + prompt"},
}
"""The recorded template prints the generation prompt behind every question, asked for or not (or,
for alpaca, a blank line less); ours print it where it is asked for."""

_TABLES = (DROPPED, OPENED, LOST_SYSTEM, REFUSED, PROMPTED)


def listed(name: str) -> set[str]:
    return set[str]().union(*(table.get(name, set()) for table in _TABLES))


def test_every_template_was_recorded() -> None:
    assert set(own()) == set(TEMPLATE_NAMES)


@pytest.mark.parametrize("name", TEMPLATE_NAMES)
def test_it_prints_what_the_models_own_prints(name: str) -> None:
    different = set()
    for conversation in CONVERSATIONS:
        for prompt in (False, True):
            key = conversation + (" + prompt" if prompt else "")
            if ours(name, conversation, prompt=prompt) != own()[name][key]:
                different.add(key)
    assert different == listed(name)


@pytest.mark.parametrize(
    ("name", "conversation"),
    [(name, key) for name, keys in DROPPED.items() for key in sorted(keys)],
)
def test_what_the_models_own_leaves_out_is_refused(name: str, conversation: str) -> None:
    key = conversation.removesuffix(" + prompt")
    assert ours(name, key, prompt=key != conversation) is None
    assert own()[name][conversation] is not None


@pytest.mark.parametrize("name", OPENED)
def test_but_for_the_answer_that_nobody_asked_for(name: str) -> None:
    for conversation in OPENED[name]:
        messages, tools, variables = CONVERSATIONS[conversation]
        text = compiled(name).render_plain(messages, tools, variables)
        opened = text + "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"
        assert shortened(opened) == own()[name][conversation]


@pytest.mark.parametrize("name", LOST_SYSTEM)
def test_the_system_text_stands_in_the_last_user_turn_whatever_follows(name: str) -> None:
    text = ours(name, "system", prompt=False)
    assert text is not None
    assert text.count("Be kind.\n\n") == 1
    assert text.replace("Be kind.\n\n", "") == own()[name]["system"]
    turns = [system("S"), user("a"), answer("b"), user("c")]
    asked = compiled(name).render_plain(turns, (), {})
    answered = compiled(name).render_plain([*turns, answer("d")], (), {})
    assert answered.startswith(asked)
    assert asked.endswith("S\n\nc[/INST]")


def test_arguments_of_calls_are_json_for_deepseek() -> None:
    text = ours("deepseek_v3", "tools", prompt=False)
    assert text is not None
    assert 'weather\n```json\n{"city": "Oslo", "days": [1, 2]}\n```<｜tool▁call▁end｜>' in text
    assert text.endswith("<｜tool▁outputs▁end｜>No.<｜end▁of▁sentence｜>")


def test_alpaca_and_phi_3_ask_for_an_answer_only_where_they_should() -> None:
    text = ours("phi_3", "question", prompt=False)
    assert text is not None
    assert text + "<|assistant|>\n" == own()["phi_3"]["question"]
    assert ours("phi_3", "question", prompt=True) == own()["phi_3"]["question"]
    assert ours("alpaca", "question", prompt=True) == own()["alpaca"]["question + prompt"]


@pytest.mark.parametrize("name", ["command_a", "command_a_rag", "command_a_tool_use", "jamba"])
def test_documents_are_variables_of_the_template(name: str) -> None:
    documents = [{"title": "T", "text": "about T"}]
    turns = [user("Hi"), answer("Hello")]
    text = compiled(name).render_plain(turns, (), {"documents": documents})
    assert "about T" in text
    assert "about T" not in compiled(name).render_plain(turns)


def test_two_results_are_one_turn_of_tools() -> None:
    turns = [*CONVERSATIONS["call"][0], result("a"), result("b")]
    text = compiled("qwen3_5").render_plain(turns, TOOLS)
    assert (
        text.count("<|im_start|>user\n<tool_response>\na\n</tool_response>\n<tool_response>\nb")
        == 1
    )
