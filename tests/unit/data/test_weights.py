"""What parts, spans and weights of a turn train, against answers written by hand.

⟦ and ⟧ stand around what trains.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.data.chats import SOURCE, chat, codes, make_tokenizer, settings, shown
from tunesmith.data.formats.chat import read_chat
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.records import Conversation, FieldSpan, Message, RowError
from tunesmith.data.render import Renderer

USER = Message({"role": "user", "content": "u"})
OPEN = "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n"
THINKING = """
{%- for m in messages -%}
{{ '<|im_start|>' + m.role + '\n' }}
{%- if m.reasoning_content -%}
{{ '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}
{%- endif -%}
{{ m.content + '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"), merges=[("b", "c")])


def answered(*spans: tuple[int, int, float], weight: float = 1.0, **fields: str) -> Conversation:
    content = {"role": "assistant", "content": "abcd", **fields}
    parts = tuple(FieldSpan("content", *span) for span in spans)
    return Conversation((USER, Message(content, None, parts, weight)))


def one(folder: Path, record: Conversation, template: str = "chatml", **more: str) -> str:
    (text,) = shown(Renderer(settings(folder, template, **more)), record)
    return text


def weights(folder: Path, record: Conversation, template: str = "chatml") -> list[float]:
    """The weights of the tokens behind the generation prompt."""
    (sample,) = Renderer(settings(folder, template)).render(record, SOURCE).samples
    trained = sample.target_weights().tolist()
    return trained[next(at for at, weight in enumerate(trained) if weight) :]


def test_a_span_trains_alone_and_the_end_of_its_turn(folder: Path) -> None:
    assert one(folder, answered((0, 1, 1.0))) == OPEN + "⟦a⟧bcd⟦<|im_end|>⟧\n"
    assert one(folder, answered((3, 4, 1.0))) == OPEN + "abc⟦d<|im_end|>⟧\n"


def test_a_token_over_a_spans_border_is_masked_and_told(folder: Path) -> None:
    record = answered((0, 2, 1.0), (2, 4, 0.0))
    assert one(folder, record) == OPEN + "⟦a⟧bcd⟦<|im_end|>⟧\n"
    row = Renderer(settings(folder, "chatml")).render(record, SOURCE)
    assert codes(row) == ["straddling-token"]
    assert "'bc' reaches over a span's border" in row.lints[0].message


def test_a_token_over_two_weights_has_the_lighter_one(folder: Path) -> None:
    assert weights(folder, answered((0, 2, 0.5), (2, 4, 2.0))) == [0.5, 0.5, 2.0, 1.0, 0.0]


def test_a_turns_weight_multiplies_its_spans_and_weighs_its_end(folder: Path) -> None:
    assert weights(folder, answered(weight=0.25)) == [0.25] * 4 + [0.0]
    assert weights(folder, answered((0, 1, 2.0), weight=0.5)) == [1.0, 0.0, 0.0, 0.5, 0.0]


def test_a_turn_of_which_no_span_trains_has_no_trained_end(folder: Path) -> None:
    assert one(folder, answered((0, 4, 0.0))) == OPEN + "abcd<|im_end|>\n"


def test_spans_win_over_the_role_and_a_flag_over_the_spans(folder: Path) -> None:
    record = answered((0, 1, 1.0))
    assert "⟦a⟧" in one(folder, record, roles_to_train=())
    (user, answer) = record.messages
    flagged = Conversation((user, Message(answer.fields, False, answer.spans)))
    assert one(folder, flagged) == OPEN + "abcd<|im_end|>\n"


def test_text_of_the_template_inside_a_body_goes_with_the_text_beside_it(folder: Path) -> None:
    both = (FieldSpan("reasoning_content", 0, 1, 1.0), FieldSpan("content", 0, 4, 1.0))
    fields = {"role": "assistant", "content": "abcd", "reasoning_content": "r"}

    def thinking(*spans: FieldSpan) -> str:
        return one(folder, Conversation((USER, Message(fields, None, spans))), THINKING)

    assert thinking(*both) == OPEN + "⟦<think>\nr\n</think>\n\nabcd<|im_end|>⟧\n"
    assert thinking(both[0]) == OPEN + "⟦<think>\nr⟧\n</think>\n\nabcd⟦<|im_end|>⟧\n"
    assert thinking(both[1]) == OPEN + "<think>\nr\n</think>\n\n⟦abcd<|im_end|>⟧\n"


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_spans_of_reasoning_under_each_of_its_names(folder: Path, key: str) -> None:
    fields = {"role": "assistant", "content": "abcd", key: "rs"}
    record = Conversation((USER, Message(fields, None, (FieldSpan(key, 1, 2, 1.0),))))
    expected = OPEN + "<think>\nr⟦s⟧\n</think>\n\nabcd⟦<|im_end|>⟧\n"
    assert one(folder, record, THINKING) == expected
    assert one(folder, record, THINKING.replace("reasoning_content", "thinking")) == expected


def test_spans_survive_what_templates_do_to_texts(folder: Path) -> None:
    template = THINKING.replace("m.content +", "(m.content | trim | replace('b', '')) ~")
    record = answered((1, 3, 1.0), content=" abd ")
    assert one(folder, record, template) == OPEN + "⟦a⟧d⟦<|im_end|>⟧\n"


def test_a_template_that_mixes_the_spans_is_the_rows_error(folder: Path) -> None:
    template = THINKING.replace("m.content +", "(m.content | tojson) +")
    with pytest.raises(RowError, match="mixes several fields"):
        Renderer(settings(folder, template)).render(answered((0, 2, 1.0)), SOURCE)


def test_one_character_trains_from_a_row_to_its_tokens(folder: Path) -> None:
    detail = [{"begin_offset": 3, "end_offset": 3, "train": True}]
    turns = [USER.fields, {"role": "assistant", "content": "abcd", "spans": detail}]
    record = read_chat({"messages": turns}, FormatOptions(detail_key="spans"))
    assert one(folder, record) == OPEN + "abc⟦d<|im_end|>⟧\n"


def test_only_the_last_of_the_trained_turns(folder: Path) -> None:
    record = chat(
        ("user", "u"), ("assistant", "a"), ("user", "v"), ("assistant", "d"), ("user", "w")
    )
    text = one(folder, record, turns_to_train="last")
    assert text.count("⟦") == 1
    assert "⟦d<|im_end|>⟧" in text
    first = chat(
        ("user", "u"), ("assistant", "a"), {"role": "assistant", "content": "d", "train": False}
    )
    assert "⟦a<|im_end|>⟧" in one(folder, first, turns_to_train="last")


def test_a_rows_own_variables_reach_the_template(folder: Path) -> None:
    template = THINKING + "{{ note }}{% for d in documents or [] %}{{ d.text }}{% endfor %}"
    record = chat(
        ("user", "u"), ("assistant", "a"), variables={"note": "N", "documents": [{"text": "D"}]}
    )
    assert one(folder, record, template).endswith("⟦a<|im_end|>⟧\nND")
