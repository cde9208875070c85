"""Rows that are laid out alike: what may be learned from a rendering, and that it is right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.unit.data.chats import chat, make_tokenizer, settings
from tunesmith.data import render
from tunesmith.data.chat import Beginnings, Chat
from tunesmith.data.layout import form_of
from tunesmith.data.origin import plain, runs_of
from tunesmith.data.records import Conversation, RowError, Source
from tunesmith.data.render import Renderer
from tunesmith.data.templates import TEMPLATE_NAMES, ChatTemplate, read_named

NOW = "2024-07-26T00:00:00"
VARIABLES = {"bos_token": "<s>", "eos_token": "</s>"}
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BLIND = {
    "printed": "{{ m.content }}",
    "trimmed": "{{ m.content | trim }}",
    "stripped on the left": "{{ m['content'].lstrip() }}",
    "joined": "{{ ['-', m.content] | join }}-{{ ''.join([m.content]) }}",
    "asked whether it is empty": "{% if m.content %}{{ m.content }}{% else %}-{% endif %}",
    "compared with nothing": "{% if m.content != '' %}{{ m.content }}{% endif %}",
    "asked what it is": "{% if m.content is string %}{{ m.content }}{% endif %}",
    "role looked at": "{% if m.role in 'user' or m.role == 'x' %}{{ m.content }}{% endif %}",
}
LOOKS = {
    "equal": "m.content == 'x'",
    "unequal": "'x' != m.content",
    "less": "m.content < 'x'",
    "within": "'x' in m.content",
    "inside a literal": "m.content in 'xyz'",
    "inside a list": "m.content in ['x', 'y']",
    "not inside a list": "m.content not in ['x', 'y']",
    "a key": "{'x': 1}[m.content] is defined",
    "a key of a dict that holds it": "{m.content: 1}.x is defined",
    "length": "m.content | length > 3",
    "starts": "m.content.startswith('x')",
    "method of a literal": "'xyz'.find(m.content) > 0",
    "split": "m.content.split('x') | length > 1",
    "first letter": "m.content[0] is defined",
    "slice": "m.content[:1] == 'x'",
    "first": "(m.content | first) is defined",
    "a number": "m.content | int",
    "test of letters": "m.content is upper",
    "test of being inside": "m.content is in 'xyz'",
    "the same text elsewhere": "m.content == messages[0].content",
    "a message among messages": "m in messages[1:]",
    "selected": "messages | selectattr('content', 'equalto', 'x') | list",
    "without an argument of its own": "m.content.strip('x')",
    "another filter": "m.content | replace('x', 'y')",
    "formatted": "'%s' % m.content",
    "unique": "messages | map(attribute='content') | unique | list",
    "an attribute of its name": "m | attr(m.content)",
}


def chat_of(text: str) -> Chat:
    return Chat(ChatTemplate("x", text, "x"), VARIABLES, NOW)


def around(body: str) -> str:
    """A template that prints each turn by ``body``."""
    return f"{{% for m in messages %}}[{{{{ m.role }}}}]{body}</s>{{% endfor %}}[assistant]"


def begun(made: Chat, *contents: str, proves: bool = False) -> Beginnings:
    roles = ("user", "assistant") * len(contents)
    turns = zip(roles, contents, strict=False)
    return made.beginnings(chat(*turns), proves=proves)


def is_laid(made: Chat, *contents: str) -> bool:
    """Whether the second of two such rows is made by the layout of the first."""
    begun(made, *contents).tracked(len(contents))
    second = begun(made, *contents)
    second.tracked(len(contents))
    return second.laid(len(contents)) is not None


@pytest.mark.parametrize("name", list(BLIND))
def test_a_template_that_looks_at_no_letters_has_layouts(name: str) -> None:
    made = chat_of(around(BLIND[name]))
    assert is_laid(made, "one", "two")
    third, slow = begun(made, "1\n2", "<think>"), chat_of(around(BLIND[name]))
    text = third.tracked(2)
    assert third.laid(2) is not None
    assert runs_of(text) == runs_of(begun(slow, "1\n2", "<think>").tracked(2))


@pytest.mark.parametrize("name", list(LOOKS))
def test_whoever_looks_at_letters_is_followed_in_each_row(name: str) -> None:
    shown = (
        f"{{% if {LOOKS[name]} %}}{{{{ m.content }}}}{{% else %}}{{{{ m.content }}}}{{% endif %}}"
    )
    made = chat_of(around(shown))
    assert not is_laid(made, "one", "two", "three")


def test_a_literal_that_equals_a_field_is_not_taken_for_it() -> None:
    """The layout of the first row would print the second one's text, with another origin."""
    literal = "{% if m.content.startswith('(') %}({{ m.content[1:] }}"
    made = chat_of(around(literal + "{% else %}{{ m.content }}{% endif %}"))
    begun(made, "ab", "cd").tracked(2)
    second = begun(made, "(b", "cd")
    text = second.tracked(2)
    assert plain(text).startswith("[user](b</s>")
    assert (2, None) in runs_of(text), "the bracket is the template's own"
    assert second.laid(2) is None


@pytest.mark.parametrize(
    ("first", "second"),
    [("a", ""), ("a", " "), ("a", " a"), ("a", "a\n"), (" a", "a "), ("", "\t")],
)
def test_blanks_and_emptiness_are_part_of_a_form(first: str, second: str) -> None:
    forms = [form_of([{"role": "user", "content": text}]) for text in (first, second)]
    assert forms[0] != forms[1]
    assert form_of([{"role": "user", "content": first, "name": None}]) == forms[0]


@pytest.mark.parametrize(
    "more", [{"tool_calls": []}, {"content": ["x"]}, {"weight": 1}, {"thinking": "x"}]
)
def test_messages_of_more_than_texts_have_no_form(more: dict[str, Any]) -> None:
    assert form_of([{"role": "user", "content": "a", **more}]) is None


def test_a_proved_row_is_followed_and_held_to_its_layout() -> None:
    made = chat_of(CHATML)
    begun(made, "a", "b").tracked(2)
    begun(made, "c", "d", proves=True).tracked(2)
    layouts = made._layouts
    (layout,) = layouts._known.values()
    assert layout is not None
    layout._parts = tuple(
        replace(part, origin=None) if part.text == "user" else part for part in layout._parts
    )
    with pytest.raises(RowError, match="other origins"):
        begun(made, "e", "f", proves=True).tracked(2)


LETTERS = st.text(st.sampled_from("ab \n<>/|(é"), max_size=6)
PIECES = st.sampled_from(["<|im_end|>", "<|im_start|>assistant\n", "</think>", "<think>", "x", " "])
CONTENT = st.lists(st.one_of(LETTERS, PIECES), max_size=4).map("".join)


@pytest.mark.parametrize("name", ["chatml", "llama3", "gemma", "mistral_v1", "alpaca", "phi_3"])
def test_masks_are_those_of_every_row_by_itself(name: str, tmp_path: Path) -> None:
    """Rows rendered by one renderer, layouts and masks recalled, and each by a fresh one."""
    folder = make_tokenizer(tmp_path)
    shared = Renderer(settings(folder, name))

    @examples(max_examples=40, deadline=None)
    @given(st.lists(CONTENT, min_size=2, max_size=4), st.sampled_from([None, True, False]))
    def check(contents: list[str], train: bool | None) -> None:
        roles = ("user", "assistant") * 2
        turns = [
            {"role": role, "content": text, "train": train if role == "user" else None}
            for role, text in zip(roles, contents, strict=False)
        ]
        row = chat(*turns)
        assert outcome(shared, row) == outcome(Renderer(settings(folder, name)), row)

    check()


def outcome(renderer: Renderer, row: Conversation) -> Any:
    try:
        made = renderer.render(row, Source(0, "x", 65))
    except RowError as error:
        return str(error)
    return [(s.input_ids.tolist(), s.runs) for s in made.samples], made.lints


def test_a_recalled_mask_is_held_to_a_proved_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer = Renderer(settings(make_tokenizer(tmp_path), CHATML))
    rows = [chat(("user", f"q{n}"), ("assistant", f"a{n}")) for n in range(4)]
    for number, row in enumerate(rows[:3]):
        renderer.render(row, Source(0, "x", 65 + number))
    (kept,) = renderer._masks._known.values()
    assert kept is not None
    monkeypatch.setattr(type(kept), "at", lambda self, starts: self.mask)
    longer = chat(("user", "a longer question"), ("assistant", "a"))
    with pytest.raises(RowError, match="laid out alike"):
        renderer.render(longer, Source(0, "x", render._PROVED_EVERY))


def test_common_templates_look_at_no_letters() -> None:
    laid = {name for name in TEMPLATE_NAMES if _is_laid(read_named(name))}
    assert {"chatml", "llama3", "gemma", "phi_4"} <= laid
    assert "qwen3" not in laid, "it searches answers for thoughts"


def _is_laid(text: str) -> bool:
    try:
        return is_laid(chat_of(text), "one", "two")
    except RowError:
        return False
