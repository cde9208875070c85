"""A good row of every format, and the options that it is read with."""

from __future__ import annotations

from typing import Any

from tunesmith.config.data import DataSection, DatasetEntry
from tunesmith.config.dataset_types import format_name
from tunesmith.config.inline import InlineFormat
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.formats.reference import DESCRIPTIONS
from tunesmith.registry import registry

INLINE = {
    "inline": InlineFormat(field_instruction="instruction"),
    "dpo.inline": InlineFormat(field_chosen="good", field_rejected="bad"),
    "kto.inline": InlineFormat(field_completion="answer", field_label="good"),
}


def names() -> list[str]:
    """The names of all formats."""
    return list(registry("formats"))


def entry(name: str) -> DatasetEntry:
    """A data set entry of the format."""
    kind = INLINE.get(name, None if name == "untyped" else name)
    made = DatasetEntry(path="rows.jsonl", type=kind)
    assert format_name(made.type) == name
    return made


def options(name: str) -> FormatOptions:
    """How the format's rows are read."""
    return FormatOptions.of(entry(name), DataSection())


def row(name: str) -> dict[str, Any]:
    """The row that the reference shows for the format."""
    return dict(DESCRIPTIONS[name].example)
