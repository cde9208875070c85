from __future__ import annotations

import datetime
import io
import json
from typing import Any

import numpy as np
import pytest

from tunesmith.data.records import (
    Conversation,
    Lint,
    Message,
    RowError,
    Segment,
    Segments,
    Source,
    Text,
)
from tunesmith.data.render import RenderedRow, RenderSettings, Row
from tunesmith.data.samples import TokenSample
from tunesmith.data.templates import ChatTemplate
from tunesmith.data.wire import (
    pack_outcomes,
    pack_rows,
    pack_settings,
    read_block,
    to_json,
    unpack_outcomes,
    unpack_rows,
    unpack_settings,
    write_block,
)

SOURCE = Source(2, "päth.jsonl", 7)
ROWS: list[Row] = [
    (SOURCE, Text("é \ud83d half a pair")),
    (SOURCE, Segments((Segment("a", True), Segment("", False)), special_tokens=False)),
    (SOURCE, Segments(())),
    (
        SOURCE,
        Conversation(
            (Message({"role": "user", "content": [{"n": 1.5}]}, False), Message({"role": "tool"})),
            ({"name": "f", "none": None},),
            {"enable_thinking": True},
        ),
    ),
]


def test_rows_arrive_as_they_were() -> None:
    assert unpack_rows(pack_rows(ROWS)) == ROWS


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"roles_to_train": None, "history": "last", "eos_id": 3},
        {
            "template": ChatTemplate("x", "{{ y }}", "z"),
            "roles": {"user": ("a", "b")},
            "eot_tokens": ("<e>",),
            "variables": {"deep": {"er": [1, None]}},
        },
    ],
)
def test_settings_arrive_as_they_were(changes: dict[str, Any]) -> None:
    settings = RenderSettings("/folder", "digest", 16, **changes)
    arrived = unpack_settings(json.loads(to_json(pack_settings(settings))))
    assert arrived == settings
    assert arrived.digest == settings.digest


def test_outcomes_arrive_as_they_were() -> None:
    def sample(*ids: int) -> TokenSample:
        return TokenSample(np.array(ids, dtype=np.int32), ((1, len(ids), 0.5),), "f:1")

    lint = Lint("code", "message", "f:1")
    outcomes = [
        RenderedRow((sample(1, 2, 3), sample(4, 5)), (lint,)),
        RowError("field", "message", "fix"),
        RenderedRow((sample(2**31 - 1, 0),)),
        RenderedRow(()),
    ]
    header, body = pack_outcomes(outcomes)
    first, error, third, empty = unpack_outcomes(json.loads(header), body)
    assert isinstance(first, RenderedRow)
    assert isinstance(third, RenderedRow)
    assert [s.input_ids.tolist() for s in first.samples] == [[1, 2, 3], [4, 5]]
    assert [s.runs for s in first.samples] == [((1, 3, 0.5),), ((1, 2, 0.5),)]
    assert first.lints == (lint,)
    assert isinstance(error, RowError)
    assert (error.field, error.message, error.fix) == ("field", "message", "fix")
    assert third.samples[0].input_ids.tolist() == [2**31 - 1, 0]
    assert third.samples[0].input_ids.dtype == np.int32
    assert empty == RenderedRow(())


def test_what_json_cannot_say_is_what_a_template_would_be_given() -> None:
    day = datetime.date(2024, 7, 26)
    assert json.loads(to_json({"day": day})) == {"day": "<date>"}


def test_blocks_end_with_the_stream() -> None:
    stream = io.BytesIO()
    for block in (b"one", b"", b"three"):
        write_block(stream, block)
    stream.seek(0)
    assert [read_block(stream) for _ in range(4)] == [b"one", b"", b"three", b""]


def test_a_block_that_is_cut_off_is_the_end() -> None:
    whole = io.BytesIO()
    write_block(whole, b"block")
    for length in range(len(whole.getvalue())):
        assert read_block(io.BytesIO(whole.getvalue()[:length])) == b""
