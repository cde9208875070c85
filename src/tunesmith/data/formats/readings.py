"""A row that says by its columns which format it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tunesmith.data.formats import completion, judged, pair_chat, pairs, prompts, segments, steps
from tunesmith.data.formats.chat import read_chat
from tunesmith.data.formats.fields import name_list, need_text
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.formats.prompted import prompt_and_answer
from tunesmith.data.formats.tokenized import read_pretokenized
from tunesmith.data.records import Record, RowError, Segments


def read_answered(row: Mapping[str, Any], options: FormatOptions) -> Segments:
    """``prompt`` and ``completion`` as they stand; the completion trains.

    Raises:
        RowError: one of them is missing or no text.
    """
    prompt, answer = need_text(row, "prompt", ""), need_text(row, "completion", "")
    return prompt_and_answer(prompt, answer, train_on_inputs=options.train_on_inputs)


_READINGS: Final[tuple[tuple[tuple[str, ...], Callable[..., Record]], ...]] = (
    (("input_ids", "labels"), read_pretokenized),
    (("segments",), segments.read_input_output),
    (("prompt", "chosen", "rejected"), pairs.read_plain),
    (("prompt", "completion", "label"), judged.read_plain),
    (("prompt", "completions", "labels"), steps.read_steps),
    (("messages", "chosen", "rejected"), pair_chat.read_pair),
    (("messages",), read_chat),
    (("prompt", "completion"), read_answered),
    (("prompt",), prompts.read_prompt),
    (("text",), completion.read_completion),
)


def read_by_columns(row: Mapping[str, Any], options: FormatOptions) -> Record:
    """The record of the first format all of whose columns the row has.

    Raises:
        RowError: it has those of none, or they are not as they should be.
    """
    for names, read in _READINGS:
        if all(name in row for name in names):
            return read(row, options)
    shapes = "; ".join(" + ".join(f"`{name}`" for name in names) for names, _ in _READINGS)
    message = f"the columns {name_list(row) or 'none'} are those of no format"
    raise RowError("", message, f"return one of: {shapes}")
