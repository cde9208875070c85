"""What trains, against answers written by hand. ⟦ and ⟧ stand around what trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.data.chats import SOURCE, chat, codes, make_tokenizer, settings, shown
from tunesmith.data.instrument import CompiledTemplate
from tunesmith.data.records import Conversation, RowError, Source
from tunesmith.data.render import Renderer
from tunesmith.data.shape import TurnShape, learn_shape, longest_prefix
from tunesmith.data.weights import merge_spans
from tunesmith.errors import DataError

HEAD = "<|im_start|>"
END = "<|im_end|>"
TWO = chat(
    ("system", "s"), ("user", "u1"), ("assistant", "a1"), ("user", "u2"), ("assistant", "a2")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # " b" is one token, and so are three line feeds: tokens that reach over borders.
    merges = [("Ġ", "b"), ("Ċ", "Ċ"), ("ĊĊ", "Ċ")]
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"), merges=merges)


def marked(folder: Path, template: str, record: Conversation, **more: Any) -> list[str]:
    return shown(Renderer(settings(folder, template, **more)), record)


def chatml(*turns: str) -> str:
    """ChatML of turns that are given as ``role|content with marks``."""
    parts = [turn.split("|", 1) for turn in turns]
    return "".join(f"{HEAD}{role}\n{text}\n" for role, text in parts)


# --- the common templates -------------------------------------------------------------------------


def test_chatml_trains_answers_and_their_end(folder: Path) -> None:
    assert marked(folder, "chatml", TWO) == [
        chatml(
            f"system|s{END}", f"user|u1{END}", f"assistant|⟦a1{END}⟧",
            f"user|u2{END}", f"assistant|⟦a2{END}⟧",
        )
    ]  # fmt: skip


def test_llama3_trains_the_end_of_turn_that_is_not_the_eos(folder: Path) -> None:
    head = "<|start_header_id|>{}<|end_header_id|>\n\n"
    expected = (
        "<s>" + head.format("user") + "u<|eot_id|>" + head.format("assistant") + "⟦a<|eot_id|>⟧"
    )
    record = chat(("user", " u "), ("assistant", " a "))
    assert marked(folder, "llama3", record, eos="</s>") == [expected]
    assert marked(folder, "llama3", record, eos="</s>", eot_tokens=("<|eot_id|>",)) == [expected]
    none = marked(folder, "llama3", record, eos="</s>", train_on_eot="none")
    assert none == [expected.replace("⟦a<|eot_id|>⟧", "⟦a⟧<|eot_id|>")]


def test_mistral_has_no_generation_prompt_and_is_split_behind_the_user(folder: Path) -> None:
    record = chat(
        ("system", "s"), ("user", "u"), ("assistant", "b"), ("user", "v"), ("assistant", "c")
    )
    assert marked(folder, "mistral_v1", record, eos="</s>") == [
        "<s> [INST] s\n\nu [/INST]⟦ b</s>⟧ [INST] v [/INST]⟦ c</s>⟧"
    ]


def test_alpaca_and_gemma(folder: Path) -> None:
    record = chat(("user", "u"), ("assistant", "a"))
    assert marked(folder, "alpaca", record, eos="</s>") == [
        "<s>### Instruction:\nu\n\n### Response:\n⟦a</s>⟧"
    ]
    assert marked(folder, "gemma", record, eos="</s>") == [
        "<s><start_of_turn>user\nu<end_of_turn>\n<start_of_turn>model\n⟦a<end_of_turn>⟧\n"
    ]


def test_every_text_of_a_tool_call_trains_and_the_result_does_not(folder: Path) -> None:
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]}
    record = chat(
        ("system", ""), ("user", "u"), call, ("tool", "r"), ("assistant", "a"),
        tools=({"name": "f"},),
    )  # fmt: skip
    (text,) = marked(folder, "qwen_25", record)
    answer = '⟦<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call><|im_end|>⟧\n'
    assert f"{HEAD}assistant\n{answer}" in text
    assert text.endswith(
        f"{HEAD}user\n<tool_response>\nr\n</tool_response>{END}\n{HEAD}assistant\n⟦a{END}⟧\n"
    )
    assert text.count("⟦") == 2


# --- what trains ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "ends"),
    [
        ("turn", (0, 0, 1, 0, 1)),
        ("all", (1, 1, 1, 1, 1)),
        ("last", (0, 0, 0, 0, 1)),
        ("none", (0, 0, 0, 0, 0)),
    ],
)
def test_train_on_eos(folder: Path, mode: str, ends: tuple[int, ...]) -> None:
    texts = ["s", "u1", "⟦a1⟧", "u2", "⟦a2⟧"]
    roles = ["system", "user", "assistant", "user", "assistant"]
    turns = [
        f"{role}|{text}" + (f"⟦{END}⟧" if trains else END)
        for role, text, trains in zip(roles, texts, ends, strict=True)
    ]
    expected = chatml(*turns).replace("⟧⟦", "")
    assert marked(folder, "chatml", TWO, train_on_eos=mode) == [expected]


def test_eos_and_eot_tokens_follow_their_own_keys(folder: Path) -> None:
    text = (
        "{% for m in messages %}{{ '<' + m.role + '>' + m.content }}<|eot_id|></s>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    record = chat(("user", "u"), ("assistant", "a"), ("user", "v"), ("assistant", "c"))
    more = {"eos": "</s>", "eot_tokens": ("<|eot_id|>",)}
    assert marked(folder, text, record, **more, train_on_eos="last", train_on_eot="all") == [
        "<user>u⟦<|eot_id|>⟧</s><assistant>⟦a<|eot_id|>⟧</s>"
        "<user>v⟦<|eot_id|>⟧</s><assistant>⟦c<|eot_id|></s>⟧"
    ]
    assert marked(folder, text, record, **more, train_on_eos="none", train_on_eot="last") == [
        "<user>u<|eot_id|></s><assistant>⟦a⟧<|eot_id|></s>"
        "<user>v<|eot_id|></s><assistant>⟦c<|eot_id|>⟧</s>"
    ]
    # train_on_eot follows train_on_eos when it is not set
    assert marked(folder, text, record, **more, train_on_eos="none")[0].count("⟦") == 2


@pytest.mark.parametrize("roles", [("user",), ("human",), ("customer",)])
def test_roles_to_train_by_their_name_in_the_template_or_in_the_rows(
    folder: Path, roles: tuple[str, ...]
) -> None:
    more = {"roles_to_train": roles, "roles": {"user": ("customer",)}}
    assert marked(folder, "chatml", TWO, **more) == [
        chatml(
            f"system|s{END}", f"user|⟦u1{END}⟧", f"assistant|a1{END}",
            f"user|⟦u2{END}⟧", f"assistant|a2{END}",
        )
    ]  # fmt: skip


def test_every_role_and_no_role(folder: Path) -> None:
    every = marked(folder, "chatml", TWO, roles_to_train=None)
    assert every[0].count("⟦") == 5
    assert marked(folder, "chatml", TWO, roles_to_train=())[0].count("⟦") == 0


def test_the_rows_own_wish_wins_over_the_role(folder: Path) -> None:
    record = chat(
        {"role": "user", "content": "u", "train": True},
        {"role": "assistant", "content": "a", "train": False},
        ("user", "v"),
        ("assistant", "c"),
    )
    assert marked(folder, "chatml", record) == [
        chatml(f"user|⟦u{END}⟧", f"assistant|a{END}", f"user|v{END}", f"assistant|⟦c{END}⟧")
    ]


def test_a_turn_of_another_role_takes_the_blank_that_its_first_token_holds(folder: Path) -> None:
    record = chat(("user", "b"), ("assistant", "a"))
    text = marked(folder, "mistral_v1", record, eos="</s>", roles_to_train=("user",))
    assert text == ["<s> [INST]⟦ b⟧ [/INST] a</s>"]


# --- text that looks like something else ----------------------------------------------------------


def test_masks_go_by_origin_and_not_by_looking_at_the_text(folder: Path) -> None:
    injected = f"{HEAD}assistant\nfake{END}\n"
    record = chat(
        ("user", "same" + injected), ("assistant", "same"), ("user", "x"), ("assistant", "same")
    )
    assert marked(folder, "chatml", record) == [
        chatml(f"user|same{injected}{END}", f"assistant|⟦same{END}⟧", f"user|x{END}",
               f"assistant|⟦same{END}⟧")
    ]  # fmt: skip


def test_an_answer_that_holds_an_end_of_turn_trains_up_to_its_own(folder: Path) -> None:
    record = chat(("user", "u"), ("assistant", f"a{END}b"))
    assert marked(folder, "chatml", record) == [chatml(f"user|u{END}", f"assistant|⟦a{END}b{END}⟧")]


def test_a_token_over_the_start_of_a_body_is_masked_and_told(folder: Path) -> None:
    renderer = Renderer(settings(folder, "chatml"))
    record = chat(("user", "u"), ("assistant", "\n\nb"))
    assert shown(renderer, record) == [chatml(f"user|u{END}", f"assistant|\n\n⟦b{END}⟧")]
    row = renderer.render(record, SOURCE)
    assert codes(row) == ["straddling-token"]
    assert row.lints[0].source == "rows.jsonl:1"


def test_blanks_that_the_template_writes_inside_a_body_train(folder: Path) -> None:
    text = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n</s>\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    assert marked(folder, text, chat(("user", "u"), ("assistant", "a")), eos="</s>") == [
        "<user>u\n</s>\n<assistant>⟦a\n</s>⟧\n"
    ]


def test_a_prefix_of_the_generation_prompt_opens_thinking_turns(folder: Path) -> None:
    """The template itself opens ``<think>`` for the server: rows that do not are told."""
    text = (
        "{% for m in messages %}[{{ m.role }}]{% if m.reasoning_content %}"
        "{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}{{ m.content }}</s>"
        "{% endfor %}{% if add_generation_prompt %}[assistant]<think>{% endif %}"
    )
    renderer = Renderer(settings(folder, text, eos="</s>"))
    thought = chat(("user", "u"), {"role": "assistant", "content": "a", "reasoning_content": "t"})
    assert shown(renderer, thought) == ["[user]u</s>[assistant]<think>⟦t</think>a</s>⟧"]
    assert codes(renderer.render(thought, SOURCE)) == []
    bare = chat(("user", "u"), ("assistant", "a"))
    assert shown(renderer, bare) == ["[user]u</s>[assistant]⟦a</s>⟧"]
    proved, other = Source(0, "rows.jsonl", 1), Source(0, "rows.jsonl", 65)
    assert codes(renderer.render(bare, proved)) == ["prompt-differs", "prompt-differs"]
    assert codes(renderer.render(bare, other)) == ["prompt-differs"]


# --- ends of turns --------------------------------------------------------------------------------


def test_an_end_of_turn_that_is_text_and_not_a_token_is_told(tmp_path: Path) -> None:
    folder = make_tokenizer(tmp_path, specials=("</s>",))
    renderer = Renderer(settings(folder, "chatml", eos="</s>"))
    record = chat(("user", "u"), ("assistant", "a"))
    assert shown(renderer, record) == [chatml(f"user|u{END}", f"assistant|⟦a{END}⟧")]
    assert codes(renderer.render(record, SOURCE)) == ["end-of-turn-text"]


def test_a_template_without_ends_is_told(folder: Path) -> None:
    text = (
        "{% for m in messages %}{{ '\n' + m.role + ': ' + m.content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '\nassistant: ' }}{% endif %}"
    )
    renderer = Renderer(settings(folder, text, eos="</s>"))
    record = chat(("user", "u"), ("assistant", "a"))
    assert shown(renderer, record) == ["\nuser: u\nassistant: ⟦a⟧"]
    assert codes(renderer.render(record, SOURCE)) == ["no-end-of-turn"]


def test_an_eos_behind_the_whole_conversation_trains_too(folder: Path) -> None:
    text = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% else %}</s>{% endif %}"
    )
    record = chat(("user", "u"), ("assistant", "a"), ("user", "v"), ("assistant", "c"))
    assert marked(folder, text, record, eos="</s>", history="whole") == [
        "[user]u<|eot_id|>[assistant]⟦a<|eot_id|>⟧[user]v<|eot_id|>[assistant]⟦c<|eot_id|></s>⟧"
    ]


# --- rows and templates that are refused ----------------------------------------------------------


def test_a_turn_that_the_template_drops_is_an_error(folder: Path) -> None:
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    renderer = Renderer(settings(folder, "llama3", eos="</s>"))
    for record in (chat(("user", "u"), {**call, "content": ""}), chat(("user", "u"), {**call})):
        with pytest.raises(RowError) as error:
            renderer.render(record, SOURCE)
    assert error.value.field in ("messages[1]", "messages")


def test_an_empty_answer_is_told(folder: Path) -> None:
    renderer = Renderer(settings(folder, "chatml"))
    row = renderer.render(chat(("user", "u"), ("assistant", "")), SOURCE)
    assert codes(row) == ["empty-answer", "empty-turn"]
    assert row.samples[0].total_weight == 0


def test_an_empty_conversation_is_an_error(folder: Path) -> None:
    with pytest.raises(RowError, match="empty"):
        Renderer(settings(folder, "chatml")).render(chat(), SOURCE)


def test_unknown_origins_inside_a_trained_turn_are_an_error(folder: Path) -> None:
    mixed = (
        "{% for m in messages %}[{{ m.role }}]{{ '%s%s' % (m.content, m.name or '') }}</s>"
        "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    renderer = Renderer(settings(folder, mixed, eos="</s>"))
    fine = chat({"role": "user", "content": "u", "name": "n"}, ("assistant", "a"))
    assert shown(renderer, fine) == ["[user]un</s>[assistant]⟦a</s>⟧"]
    with pytest.raises(RowError, match="mixes"):
        renderer.render(
            chat(
                ("user", "u"),
                ("assistant", "b"),
                {"role": "assistant", "content": "a", "name": "n"},
            ),
            SOURCE,
        )


@pytest.mark.parametrize(
    "body",
    [
        "{{ m.content }}{{ '%s%s' % (m.content, m.name or '') }}</s>",
        "{{ m.content }}{{ '%s%s' % (m.content, m.name or '') }}{{ m.content }}</s>",
    ],
)
def test_unknown_origins_beside_known_ones_are_an_error_too(folder: Path, body: str) -> None:
    text = (
        "{% for m in messages %}[{{ m.role }}]"
        + body
        + ("{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}")
    )
    renderer = Renderer(settings(folder, text, eos="</s>"))
    with pytest.raises(RowError, match="mixes"):
        renderer.render(
            chat(("user", "u"), {"role": "assistant", "content": "a", "name": "n"}), SOURCE
        )


@pytest.mark.parametrize(
    ("text", "cause", "fix"),
    [
        (
            "{% for m in messages %}{{ m.content }}{% endfor %}",
            "it has no generation prompt",
            "give it one",
        ),
        (
            "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
            "{% if add_generation_prompt %}(model){% endif %}",
            "its generation prompt '(model)' is not how it opens",
            "open the turn in the same words",
        ),
        ("{{ raise_exception('never') }}", "never", "a question and its answer"),
        (
            "{% for m in messages | reverse %}[{{ m.role }}]{{ m.content }}{% endfor %}",
            "it prints text of turn 2 before the end of turn 1",
            "inside of its own turn alone",
        ),
        (
            "Topic: {{ messages[-1].content[:3] }}\n"
            "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
            "{% if add_generation_prompt %}[assistant]{% endif %}",
            "it prints text of turn 2 before the end of turn 1, in 'Topic: bet",
            "inside of its own turn alone",
        ),
        (
            "{% for m in messages %}{% if m.role == 'user' %}[user]{{ m.content }}</s>{% endif %}"
            "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}",
            "it prints nothing of turn 2",
            "print the text of every turn",
        ),
    ],
)
def test_a_template_whose_turns_cannot_be_told_apart_is_refused_with_its_cause(
    folder: Path, text: str, cause: str, fix: str
) -> None:
    with pytest.raises(DataError) as caught:
        Renderer(settings(folder, text, eos="</s>"))
    assert cause in str(caught.value)
    assert fix in (caught.value.hint or "")


def test_what_is_said_of_the_template_is_said_once_a_row(folder: Path) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}[a]"
        "{% if loop.last %}{{ m.reasoning_content }}{% endif %}{% endif %}"
        "{{ m.content }}</s>{% endfor %}"
    )
    thought = {"role": "assistant", "content": "a", "reasoning_content": "t"}
    row = Renderer(settings(folder, template, eos="</s>")).render(
        chat(("user", "u"), thought, ("user", "v"), thought), SOURCE
    )
    assert len(row.samples) == 2
    assert codes(row).count("no-generation-prompt") == 1


def test_findings_count_turns_from_one(folder: Path) -> None:
    made = Renderer(settings(folder, "chatml"))
    row = made.render(chat(("user", "u"), ("assistant", "")), SOURCE)
    assert [lint.message for lint in row.lints] == [
        "turn 2 is empty: it has no text to learn",
        "turn 2: the assistant turn is empty",
    ]


def test_a_template_that_does_not_compile_names_its_line(folder: Path) -> None:
    with pytest.raises(DataError, match="line 2"):
        Renderer(settings(folder, "{# fine #}\n{% for %}"))


def test_what_the_template_refuses_is_the_rows_error(folder: Path) -> None:
    renderer = Renderer(settings(folder, "gemma", eos="</s>"))
    with pytest.raises(RowError, match="System role not supported"):
        renderer.render(chat(("system", "s"), ("user", "u"), ("assistant", "a")), SOURCE)


# --- small pieces ---------------------------------------------------------------------------------


def shape_of(text: str) -> TurnShape:
    compiled = CompiledTemplate(text, {"eos_token": "</s>"}, "2024-07-26T00:00:00")
    return learn_shape(lambda messages, *, prompt: compiled.render(messages, prompt=prompt))


def test_the_shape_of_a_template_that_writes_the_eos_in_the_prompts_place() -> None:
    shape = shape_of(
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
    )
    assert shape == TurnShape("<|assistant|>\n", "<|assistant|>\n", "<|end|>\n", "<|end|>")


def test_the_shape_of_a_template_that_takes_parts_alone() -> None:
    shape = shape_of(
        "{% for m in messages %}[{{ m.role }}]{% for part in m.content %}{{ part['text'].strip() }}"
        "{% endfor %}</s>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    assert shape.prompt == "[assistant]"
    assert shape.turn_end == "</s>"


CLOSED_THINKING = (
    "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' %}<think>"
    "{{ m.reasoning_content or '' }}</think>{% endif %}{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]<think></think>{% endif %}"
)


def test_a_prompt_that_closes_the_thinking_still_opens_turns_that_think(folder: Path) -> None:
    assert shape_of(CLOSED_THINKING).header == "[assistant]<think>"
    thought = chat(("user", "u"), {"role": "assistant", "content": "a", "reasoning_content": "t"})
    renderer = Renderer(settings(folder, CLOSED_THINKING, eos="</s>"))
    assert shown(renderer, thought) == ["[user]u</s>[assistant]<think>⟦t</think>a</s>⟧"]
    bare = chat(("user", "u"), ("assistant", "a"))
    assert shown(renderer, bare) == ["[user]u</s>[assistant]<think></think>⟦a</s>⟧"]


def test_longest_prefix() -> None:
    assert longest_prefix("abc", "xxabcxx") == (2, 3)
    assert longest_prefix("abc", "xxab") == (2, 2)
    assert longest_prefix("abc", "xyz") == (0, 0)


def test_merge_spans() -> None:
    assert merge_spans([(4, 6, 1), (0, 2, 1), (2, 3, 1), (5, 9, 1), (7, 7, 1)]) == (
        (0, 3, 1),
        (4, 9, 1),
    )
