"""What a model is asked while it trains on its own answers: prompts with columns for rewards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.data.formats.fields import need, need_text
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.formats.pair_chat import conversation
from tunesmith.data.records import Prompt, Prompts, RowError


def read_prompt(row: Mapping[str, Any], options: FormatOptions) -> Prompts:
    """``prompt``, a text or turns, and all other columns as they are.

    Raises:
        RowError: the prompt is missing or not as it should be.
    """
    value = need(row, "prompt", "")
    extras = {name: part for name, part in row.items() if name != "prompt"}
    if isinstance(value, list):
        placed = [(turn, f"prompt[{at}]") for at, turn in enumerate(value)]
        if not placed:
            raise RowError("prompt", "is an empty list", "remove the row: it asks nothing")
        asked = conversation(placed, options, row.get(options.field_tools))
        return Prompts((Prompt(asked, extras),))
    return Prompts((Prompt(need_text(row, "prompt", ""), extras),))
