"""Findings in words: each fires on what it is for, and is silent beside it."""

from __future__ import annotations

import pytest

from tunesmith.data.formats.lint import lint_record
from tunesmith.data.formats.text_lint import has_open_fence, loop_of, stops_midway
from tunesmith.data.records import (
    Conversation,
    Judged,
    Message,
    Preference,
    Prompt,
    Prompts,
    Record,
    Segment,
    Segments,
    Steps,
    Text,
)

PROSE = (
    "The lamp stands beside the door. It was painted grey last spring, and the paint has held. "
    "Nobody knows who moved it there! Perhaps it was the wind, or a visitor. "
)
CHINESE = (
    "灯放在门边。去年春天漆成了灰色，漆一直没有掉。没有人知道是谁把它搬到那里的！也许是风，也许是一位客人。"
    * 4
)
CUT = PROSE + "In any case it lights the whole of the"


def answer(text: str) -> Segments:
    return Segments((Segment("Tell me.", False), Segment(text, True)))


def chat(text: str, **more: object) -> Conversation:
    turns = ({"role": "user", "content": "u"}, {"role": "assistant", "content": text, **more})
    return Conversation(tuple(Message(turn) for turn in turns))


def codes(record: Record) -> list[str]:
    return [lint.code for lint in lint_record(record)]


@pytest.mark.parametrize(
    "text",
    [
        CUT,
        PROSE + "There is the lamp, the door, the wind,",
        "# Lamps\n\n" + CUT,
        CHINESE + "无论如何它照亮了整个房间的每一个",
    ],
)
def test_an_answer_that_is_cut_off(text: str) -> None:
    assert stops_midway(text)
    assert codes(answer(text)) == ["cut-answer"]
    assert codes(chat(text)) == ["cut-answer"]
    assert codes(Preference(answer(text), answer("No."))) == ["cut-answer"]


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        PROSE + "It is said so (by many)",
        PROSE + 'They call it "the lamp."',
        PROSE + "It is **the lamp.**",
        PROSE + "The sum is 42",
        PROSE + "Best regards",
        PROSE + "\n\nBest regards,\nAn old friend of the lamp",
        PROSE + "\n- the lamp\n- the door and the rest of the house",
        PROSE + "\n1. First. Second. Third. Then the lamp and the door",
        PROSE + "\n```python\nprint('the lamp is on')\n```",
        "the lamp and the door and " * 20,
        CHINESE,
        CHINESE + "无论如何",
    ],
)
def test_an_answer_that_is_whole(text: str) -> None:
    assert not stops_midway(text)
    assert "cut-answer" not in codes(answer(text))


def test_short_answers_are_left_alone() -> None:
    short = "Lamps. Doors. Winds. And then it just went"
    assert stops_midway(short)
    assert codes(answer(short)) == []


def test_only_answers_are_asked_to_end() -> None:
    assert codes(Text(CUT)) == []
    assert codes(Segments((Segment(CUT, False), Segment("Yes.", True)))) == []
    assert codes(Judged(answer(CUT), is_good=True)) == ["cut-answer"]
    assert codes(Judged(answer(CUT), is_good=False)) == []
    assert codes(Preference(answer("Yes."), answer(CUT))) == []
    calls = [{"function": {"name": "f", "arguments": {}}}]
    assert codes(chat(CUT, tool_calls=calls)) == []


def test_an_end_that_the_row_writes_itself_is_no_part_of_the_answer() -> None:
    assert codes(Segments((Segment(CUT + "</s>", True),), special_tokens=False)) == ["cut-answer"]
    assert codes(Segments((Segment(PROSE + "</s>", True),), special_tokens=False)) == []


@pytest.mark.parametrize(
    ("text", "is_open"),
    [
        ("```python\nprint(1)\n```", False),
        ("```python\nprint(1)\n", True),
        ("a\n```\nb\n```\nc\n```\nd", True),
        ("````\n```\nshown\n```\n````", False),
        ("````\n```\n", True),
        ("~~~\ncode\n~~~", False),
        ("~~~\ncode\n```", True),
        ("1. ```sh\n   ls\n   ```", False),
        ("say ``` in a line", False),
        ("```inline``` code", False),
        ("no code", False),
    ],
)
def test_fences_of_code(text: str, is_open: bool) -> None:
    assert has_open_fence(text) == is_open


def test_an_open_fence_is_told_in_place_of_a_cut() -> None:
    assert codes(answer(PROSE * 2 + "\n```python\nfor lamp in lamps:\n    paint(lamp")) == [
        "open-code-fence"
    ]


@pytest.mark.parametrize(
    "text",
    [
        PROSE + "and then the lamp went out again and again " * 12,
        "I am sorry, but I cannot do that for you now. " * 10,
        "我很抱歉，但是我现在不能为你做这件事情。" * 12,
    ],
)
def test_a_text_that_loops(text: str) -> None:
    assert loop_of(text)
    assert "repeated-text" in codes(answer(text))
    assert codes(Text(text)) == ["repeated-text"]


@pytest.mark.parametrize(
    "text",
    [
        PROSE * 3,
        CHINESE,
        "\n".join(f"{n} x 7 = {n * 7}" for n in range(40)),
        "\n".join(f"    self.field_{n} = field_{n}  # the field number {n}" for n in range(30)),
        "ha " * 20,
    ],
)
def test_a_text_that_does_not_loop(text: str) -> None:
    assert loop_of(text) is None


@pytest.mark.parametrize("text", ["café", "naïve – “quoted” …", "你好，世界", "Привет", "😀🎉"])
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_utf8_that_was_read_as_something_else(text: str, encoding: str) -> None:
    damaged = text.encode().decode(encoding, errors="ignore")
    assert codes(answer(f"so: {damaged}")) == ["damaged-text"]
    assert codes(answer(f"so: {text}")) == []


@pytest.mark.parametrize(
    "text",
    [
        "São Paulo, CORAÇÃO, PÂQUES, Âge, â bord, château",
        "TUỔI THÂN “Â” ẤÂ",
        "Ñandú, ÐÐ, Ärger, åäö, çà et là, ðe",
        "20 °C, §5, «ainsi», ½",
        "हिन्दी العربية עברית 日本語 한국어",
    ],
)
def test_letters_that_are_meant(text: str) -> None:
    assert codes(answer(text)) == []


def test_lost_bytes_are_told_wherever_they_stand() -> None:
    lost = "a \N{REPLACEMENT CHARACTER} b"
    assert codes(answer(lost)) == codes(Text(lost)) == codes(chat(lost)) == ["damaged-text"]
    assert codes(Segments((Segment(lost, False), Segment("a", True)))) == ["damaged-text"]
    assert codes(Steps("p", (lost,), (True,))) == ["damaged-text"]
    assert codes(Prompts((Prompt(lost),))) == ["damaged-text"]


def test_nothing_to_learn_judge_or_answer() -> None:
    assert codes(Steps("p", ("a", " "), (True, True))) == ["empty-step"]
    assert codes(Steps("p", ("a", "b"), (True, True))) == []
    assert codes(Prompts((Prompt(" "),))) == ["empty-prompt"]
    assert codes(Prompts((Prompt("p"),))) == []
    assert codes(answer(" ")) == ["empty-answer"]
    assert codes(Preference(answer("a"), answer("a"))) == ["identical-answers"]
