from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.data.chats import SOURCE, chat, codes, make_tokenizer, settings, shown
from tunesmith.data.records import Conversation, RowError
from tunesmith.data.render import Renderer

HEAD = "<|im_start|>"
END = "<|im_end|>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def renderer(folder: Path, **more: Any) -> Renderer:
    return Renderer(settings(folder, "qwen3", **more))


def thinking(thought: str, answer: str) -> dict[str, str]:
    return {"role": "assistant", "content": answer, "reasoning_content": thought}


TWO = chat(("user", "u"), thinking("t1", "a1"), ("user", "v"), thinking("t2", "a2"))
FIRST = f"{HEAD}user\nu{END}\n{HEAD}assistant\n⟦<think>\nt1\n</think>\n\na1{END}⟧\n"
LAST = (
    f"{HEAD}user\nu{END}\n{HEAD}assistant\na1{END}\n"
    f"{HEAD}user\nv{END}\n{HEAD}assistant\n⟦<think>\nt2\n</think>\n\na2{END}⟧\n"
)


def test_expand_makes_a_sample_of_each_turn_that_later_ones_change(folder: Path) -> None:
    for history in (None, "expand"):
        made = renderer(folder, history=history)
        assert shown(made, TWO) == [FIRST, LAST]
        assert codes(made.render(TWO, SOURCE)) == ["history"]


def test_last_trains_what_the_template_leaves_alone(folder: Path) -> None:
    made = renderer(folder, history="last")
    assert shown(made, TWO) == [LAST]
    assert codes(made.render(TWO, SOURCE)) == ["history"]


def test_whole_trains_every_turn_of_the_one_rendering(folder: Path) -> None:
    made = renderer(folder, history="whole")
    assert shown(made, TWO) == [LAST.replace(f"a1{END}", f"⟦a1{END}⟧")]


def test_turns_that_stay_as_they_are_share_a_sample(folder: Path) -> None:
    """Tool turns keep their thinking until the user speaks again."""
    call = {
        "role": "assistant",
        "content": "",
        "reasoning_content": "t",
        "tool_calls": [{"function": {"name": "f", "arguments": {}}}],
    }
    record = chat(("user", "u"), call, ("tool", "r"), thinking("t2", "a"))
    (text,) = shown(renderer(folder), record)
    assert text.count("⟦") == 2
    assert text.count("<think>") == 2


def test_a_stable_template_makes_one_sample(folder: Path) -> None:
    made = Renderer(settings(folder, "chatml"))
    record = chat(
        ("user", "u"), ("assistant", "a"), ("user", "v"), ("assistant", "b"), ("user", "w")
    )
    row = made.render(record, SOURCE)
    assert len(row.samples) == 1
    assert [lint.code for lint in row.lints] == ["ends-with-user"]


def test_a_user_turn_behind_the_last_answer_changes_it_too(folder: Path) -> None:
    record = chat(("user", "u"), thinking("t1", "a1"), ("user", "v"))
    assert shown(renderer(folder), record) == [FIRST]
    assert shown(renderer(folder, history="last"), record) == [FIRST]


def test_other_roles_train_in_the_sample_of_the_answer_behind_them(folder: Path) -> None:
    made = renderer(folder, roles_to_train=("user", "assistant"))
    first, second = shown(made, TWO)
    assert first == FIRST.replace(f"u{END}", f"⟦u{END}⟧")
    assert second == LAST.replace(f"v{END}", f"⟦v{END}⟧")


def test_ends_of_turn_train_once_over_all_samples(folder: Path) -> None:
    every = "".join(shown(renderer(folder, train_on_eos="all"), TWO))
    assert every.count(f"{END}⟧") == 4
    last = shown(renderer(folder, train_on_eos="last"), TWO)
    assert f"{END}⟧" not in last[0]
    assert last[1].count(f"{END}⟧") == 1


def test_a_very_long_row_of_a_stable_template_is_one_sample(folder: Path) -> None:
    turns = [turn for n in range(500) for turn in (("user", f"q{n}"), ("assistant", f"a{n}"))]
    made = Renderer(settings(folder, "chatml"))
    row = made.render(chat(*turns), SOURCE)
    assert len(row.samples) == 1
    assert row.samples[0].total_weight == sum(len(f"a{n}") + 1 for n in range(500))


@pytest.mark.parametrize("exchanges", [17, 40])
def test_every_answer_of_a_long_row_trains_as_a_server_asks_for_it(
    folder: Path, exchanges: int
) -> None:
    turns = [
        turn for n in range(exchanges) for turn in (("user", f"q{n}"), thinking(f"t{n}", f"a{n}"))
    ]
    record = chat(*turns)
    texts = shown(renderer(folder), record)
    assert len(texts) == exchanges
    for number, text in enumerate(texts):
        assert text.count("⟦") == 1
        assert f"⟦<think>\nt{number}\n</think>\n\na{number}{END}⟧" in text
    assert shown(renderer(folder, history="last"), record) == texts[-1:]


def test_too_many_turns_that_the_template_changes_are_an_error(folder: Path) -> None:
    turns = [turn for n in range(513) for turn in (("user", "q"), thinking("t", "a"))]
    with pytest.raises(RowError, match=r"513 turns train.*512 samples"):
        renderer(folder).render(chat(*turns), SOURCE)


def test_a_row_that_loses_its_last_turn_alone_became_one_sample(folder: Path) -> None:
    record = chat(("user", "u"), thinking("t1", "a1"), ("user", "v"))
    (lint,) = [
        lint for lint in renderer(folder).render(record, SOURCE).lints if lint.code == "history"
    ]
    assert lint.message.endswith("the row became 1 sample")


def ids_before_answers(folder: Path, record: Conversation) -> list[tuple[list[int], list[int]]]:
    """For each sample: its ids, and the ids of the prompt that a server makes for its last turn."""
    made = renderer(folder)
    pairs = []
    answers = [n for n, message in enumerate(record.messages) if message.role == "assistant"]
    for number, sample in zip(answers, made.render(record, SOURCE).samples, strict=True):
        fields = [message.fields for message in record.messages[:number]]
        assert made._chat is not None
        prompt = made._chat.compiled.render_plain(fields, prompt=True)
        pairs.append((sample.input_ids.tolist(), made._encoder.encode(prompt).ids.tolist()))
    return pairs


def test_what_a_server_sends_is_a_prefix_of_what_was_trained(folder: Path) -> None:
    for ids, prompt in ids_before_answers(folder, TWO):
        assert ids[: len(prompt)] == prompt
