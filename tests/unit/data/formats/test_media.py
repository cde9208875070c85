"""Rows with images, videos or sounds are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith.config.data import DataSection, DatasetEntry
from tunesmith.data.formats.load import load_format
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.records import RowError

TURNS = [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "This."}]


def read(row: dict[str, Any]) -> Any:
    entry = DatasetEntry(path="x", type="chat_template")
    return load_format(entry)(row, FormatOptions.of(entry, DataSection()))


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ({"type": "image", "path": "a/lamp.png"}, "'a/lamp.png', and images"),
        ({"type": "image", "url": "https://lamps.example/1.png"}, "'https://lamps.example/1.png'"),
        ({"type": "image_url", "image_url": {"url": "b.png"}}, "'b.png', and images"),
        ({"type": "input_image", "image_url": "c.png"}, "'c.png', and images"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 999}}, "A..."),
        ({"type": "video", "video": "d.mp4"}, "'d.mp4', and videos"),
        ({"type": "audio", "audio": {"path": "e.wav"}}, "'e.wav', and sounds"),
        ({"type": "image", "image": [[0, 0, 0]]}, "data, and images"),
    ],
)
def test_a_part_that_is_no_text(part: dict[str, Any], named: str) -> None:
    turn = {"role": "user", "content": [{"type": "text", "text": "Which?"}, part]}
    with pytest.raises(RowError) as error:
        read({"messages": [turn, TURNS[1]]})
    assert error.value.field == "messages[0].content[1].type"
    assert named in error.value.message
    assert error.value.message.endswith("not built yet")
    assert len(error.value.message) < 200


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("images", ["lamp.png"]),
        ("image", "lamp.png"),
        ("images", [{"path": "lamp.png", "bytes": None}]),
        ("videos", ["lamp.png"]),
    ],
)
def test_a_column_beside_the_turns(column: str, value: Any) -> None:
    with pytest.raises(RowError) as error:
        read({"messages": TURNS, column: value})
    assert error.value.field == column
    assert "'lamp.png'" in error.value.message


@pytest.mark.parametrize("more", [{"images": []}, {"image": None}, {"imagery": ["lamp.png"]}])
def test_rows_of_text_alone(more: dict[str, Any]) -> None:
    assert len(read({"messages": TURNS, **more}).messages) == 2


def test_an_unknown_part_is_refused_as_before() -> None:
    turn = {"role": "user", "content": [{"type": "hologram", "path": "x"}]}
    with pytest.raises(RowError, match="'hologram'"):
        read({"messages": [turn, TURNS[1]]})
