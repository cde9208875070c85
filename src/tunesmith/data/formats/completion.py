"""``completion`` and ``pretrain``: text that trains whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.data.formats.fields import need_text
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.records import Text


def read_completion(row: Mapping[str, Any], options: FormatOptions) -> Text:
    """The text of ``field`` (``text`` when the entry names none).

    Raises:
        RowError: the field is missing or no text.
    """
    return Text(need_text(row, options.field or "text", "field"))


def read_pretrain(row: Mapping[str, Any], options: FormatOptions) -> Text:
    """The text of ``text_column`` (``text`` when the entry names none).

    Raises:
        RowError: the field is missing or no text.
    """
    return Text(need_text(row, options.text_column or "text", "text_column"))
