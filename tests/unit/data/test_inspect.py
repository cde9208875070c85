import re

from tests.unit.data import toys
from tunesmith.config.data import DataSection, DatasetEntry
from tunesmith.data.formats.load import load_format
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.inspect import Sample, show
from tunesmith.data.render import Renderer, TokenView


def view(text, weight=0.0, reason="r", message=None, field="template"):
    return TokenView(text, 1, weight, message, "user" if message is not None else "", field, reason)


def plain_lines(views, **keys):
    return list(show([Sample("f:1", views)], colour=False, **keys))


def test_trained_stretches_stand_in_brackets():
    views = [view("a"), view("b", 1.0), view("c", 1.0), view("\n"), view("d"), view("e", 1.0)]
    assert plain_lines(views) == [
        "[trained]  masked",
        "",
        "f:1: 6 tokens, 3 trained",
        "a[bc]⏎",
        "d[e]",
    ]


def test_other_weights_are_written_out():
    assert plain_lines([view("a", 0.5), view("b", 1.0)])[3] == "[a×0.5][b]"


def test_colours_say_the_same_and_no_line_leaves_them_open():
    views = [view("a\nb"), view("c\nd", 1.0)]
    lines = list(show([Sample("f:1", views)], colour=True))
    for line in lines:
        assert line.count("\x1b[0m") == len(re.findall(r"\x1b\[[1-9][\d;]*m", line))
    stripped = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in lines]
    assert stripped[3:] == ["a⏎", "bc⏎", "d"]
    assert "\x1b[4;32mc⏎\x1b[0m" in lines[4]
    assert "\x1b[2mb\x1b[0m" in lines[4]


def test_data_cannot_steer_the_terminal():
    (line,) = plain_lines([view("\x1b[2J\r\t\x00\u202e")])[3:]
    assert line == "\\x1b[2J\\r⇥\\x00\\u202e"


def test_the_table_of_reasons():
    views = [
        view("x", reason="nothing"),
        view("a", 1.0, "body", 0, "content"),
        view("b", 1.0, "body", 0, "content"),
    ]
    rows = [line.split() for line in plain_lines(views, reasons=True)[4:]]
    assert rows == [
        ["-", "0..1", "template", "nothing", "'x'"],
        ["+", "1..3", "turn", "1", "user", "content", "body", "'ab'"],
    ]


def test_a_conversation(tmp_path):
    toy = toys.settings(toys.make_tokenizer(tmp_path / "tokenizer"))
    entry = DatasetEntry(path="x")
    row = {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Yo"},
        ]
    }
    record = load_format(entry)(row, FormatOptions.of(entry, DataSection()))
    (views,) = Renderer(toy).explain(record)
    lines = plain_lines(views, reasons=True)
    assert lines[3] == "<|user|>Hi<|end|><|assistant|>[Yo<|end|>]"
    trained = [line for line in lines[4:] if line.startswith("+")]
    assert "turn 2 assistant content" in trained[0]
    assert "end of turn" in trained[-1]
