"""Rows whose entry names no type: token ids where they are that, else turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.data.formats.chat import read_chat
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.formats.tokenized import COLUMNS, read_pretokenized
from tunesmith.data.records import Conversation, Tokens


def read_untyped(row: Mapping[str, Any], options: FormatOptions) -> Conversation | Tokens:
    """The ids of a row that has ``input_ids``, ``attention_mask`` and ``labels``, else its turns.

    Raises:
        RowError: they are not as they should be.
    """
    return read_pretokenized(row, options) if row.keys() >= COLUMNS else read_chat(row, options)
