import pytest

from tunesmith.config.data import DataSection, DatasetEntry
from tunesmith.data.formats.completion import read_completion
from tunesmith.data.formats.inline import read_inline
from tunesmith.data.formats.instruct import read_alpaca
from tunesmith.data.formats.load import load_format
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.formats.segments import read_input_output
from tunesmith.data.records import RowError, Segment, Segments, Text
from tunesmith.errors import ConfigError


def options(data=None, **entry):
    return FormatOptions.of(DatasetEntry(path="x", **entry), DataSection(**(data or {})))


def test_the_names_of_the_catalog_are_read_by_these_functions():
    for name, function in (
        ("alpaca", read_alpaca),
        ("completion", read_completion),
        ("input_output", read_input_output),
        ({"field_output": "a"}, read_inline),
    ):
        assert load_format(DatasetEntry(path="x", type=name)) is function
    with pytest.raises(ConfigError) as error:
        load_format(DatasetEntry(path="x", type="alpacca"))
    assert "alpaca" in error.value.hint


# The two texts of the Stanford Alpaca training code, written out as axolotl renders them.
WITH_INPUT = """Below is an instruction that describes a task, paired with an input that provides \
further context. Write a response that appropriately completes the request.

### Instruction:
Add.

### Input:
1 {2}

### Response:
"""
WITHOUT_INPUT = """Below is an instruction that describes a task. Write a response that \
appropriately completes the request.

### Instruction:
Add.

### Response:
"""


def test_alpaca():
    row = {"instruction": "Add.", "input": "1 {2}", "output": "{3}", "more": 1}
    assert read_alpaca(row, options()) == Segments(
        (Segment(WITH_INPUT, train=False), Segment("{3}", train=True))
    )
    for nothing in ({"input": ""}, {"input": None}):
        assert read_alpaca({**row, **nothing}, options()).pieces[0].text == WITHOUT_INPUT
    del row["input"]
    assert read_alpaca(row, options()).pieces[0].text == WITHOUT_INPUT
    unanswered = read_alpaca({**row, "output": ""}, options())
    assert unanswered.pieces == (Segment(WITHOUT_INPUT, train=False),)
    trained = read_alpaca(row, options({"train_on_inputs": True}))
    assert [piece.train for piece in trained.pieces] == [True, True]


@pytest.mark.parametrize(
    ("change", "field", "says", "fix"),
    [
        ({"output": None}, "output", "is null", "remove the row"),
        ({"output": 42}, "output", "is a number (42), want text", "text"),
        ({"output": True}, "output", "is true or false", "text"),
        ({"instruction": ["a"]}, "instruction", "is a list", "text"),
        ({"input": {"a": 1}}, "input", "is an object", "text"),
    ],
)
def test_a_field_that_is_no_text(change, field, says, fix):
    row = {"instruction": "a", "input": "b", "output": "c", **change}
    with pytest.raises(RowError) as error:
        read_alpaca(row, options())
    assert error.value.field == field
    assert says in error.value.message
    assert fix in error.value.fix


def test_a_missing_field_is_named_with_the_rows_fields_and_the_nearest():
    with pytest.raises(RowError) as error:
        read_alpaca({"instruction": "a", "ouput": "b"}, options())
    assert error.value.message == ("the row has no field `output`; it has `instruction`, `ouput`")
    assert "did you mean `ouput`?" in error.value.fix
    with pytest.raises(RowError) as error:
        read_completion({"body": "a"}, options(field="boddy"))
    assert "set `field: body`" in error.value.fix
    with pytest.raises(RowError) as error:
        read_completion({}, options())
    assert "no fields at all" in error.value.message
    with pytest.raises(RowError) as error:
        read_alpaca({"version": 1, "data": [{"instruction": "a"}]}, options())
    assert "inside of `data`" in error.value.fix


def test_completion():
    assert read_completion({"text": "a\n"}, options()) == Text("a\n")
    assert read_completion({"text": "a", "body": ""}, options(field="body")) == Text("")
    with pytest.raises(RowError):
        read_completion({"text": None}, options())


def test_input_output():
    row = {"segments": [{"label": False, "text": "<s>Q "}, {"label": True, "text": ""}]}
    assert read_input_output(row, options()) == Segments(
        (Segment("<s>Q ", train=False), Segment("", train=True)), special_tokens=False
    )
    trained = read_input_output(row, options({"train_on_inputs": True}))
    assert all(piece.train for piece in trained.pieces)


@pytest.mark.parametrize(
    ("segments", "field"),
    [
        (None, "segments"),
        ([], "segments"),
        ("text", "segments"),
        (["text"], "segments[0]"),
        ([{"label": True}], "segments[0].text"),
        ([{"text": "a"}], "segments[0].label"),
        ([{"text": "a", "label": True}, {"text": "a", "label": "false"}], "segments[1].label"),
        ([{"text": 1, "label": True}], "segments[0].text"),
    ],
)
def test_broken_segments(segments, field):
    with pytest.raises(RowError) as error:
        read_input_output({"segments": segments}, options())
    assert error.value.field == field
    assert "label" in error.value.fix


def inline(row, **mapping):
    return [(p.text, p.train) for p in read_inline(row, options(type=mapping)).pieces]


def test_an_inline_mapping_falls_back_to_axolotls_formats():
    row = {"q": "Q", "ctx": "C", "a": "A"}
    fields = {"field_instruction": "q", "field_input": "ctx", "field_output": "a"}
    assert inline(row, **fields) == [("Q C ", False), ("A", True)]
    assert inline({**row, "ctx": ""}, **fields) == [("Q ", False), ("A", True)]
    # Each of the two formats falls back by itself.
    only = {"field_instruction": "q", "field_output": "a", "format": "{instruction} ->"}
    assert inline(row, **only) == [("Q ", False), ("A", True)]
    both = {**fields, "format": "[{instruction}|{input}]", "no_input_format": "<{instruction}>"}
    assert inline(row, **both)[0] == ("[Q|C]", False)
    assert inline({**row, "ctx": None}, **both)[0] == ("<Q>", False)


def test_the_system_text_of_an_inline_mapping():
    row = {"instruction": "Q", "output": "A"}
    assert inline(row, system_prompt="S")[0][0] == "SQ "
    assert inline(row, system_prompt="S", system_format="<<{system}>>\n")[0][0] == "<<S>>\nQ "
    assert inline({**row, "system": "R"}, system_prompt="S")[0][0] == "RQ "
    assert inline({**row, "sys": "R"}, field_system="sys")[0][0] == "RQ "
    assert inline({**row, "sys": None}, field_system="sys", system_prompt="S")[0][0] == "SQ "
    assert inline({**row, "sys": ""}, field_system="sys", system_prompt="S")[0][0] == "Q "
    with pytest.raises(RowError, match="no field `sys`"):
        inline(row, field_system="sys")


def test_an_inline_format_that_cannot_be_filled_is_the_configs_fault():
    for wrong in ("{question}", "{", "{0}", "{instruction.x}"):
        with pytest.raises(ConfigError, match=r"type\.no_input_format") as error:
            inline({"instruction": "Q", "output": "A"}, no_input_format=wrong)
        assert "{instruction}" in error.value.hint


def test_an_inline_field_that_is_missing():
    with pytest.raises(RowError) as error:
        inline({"instruction": "Q", "answer": "A"}, field_output="anwser")
    assert error.value.fix.endswith("set `type.field_output: answer`")
