"""``alpaca``: an instruction, an optional input, and the answer, in Alpaca's own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.data.formats.fields import need_text, optional_text
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.formats.prompted import prompt_and_answer
from tunesmith.data.records import Segments

# The wording of the Stanford Alpaca paper's training prompts; models expect it to the letter.
_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
)


def read_alpaca(row: Mapping[str, Any], options: FormatOptions) -> Segments:
    """The Alpaca prompt and the answer; the answer trains.

    Reads ``instruction``, ``input`` (may be missing, null or empty) and ``output``.

    Raises:
        RowError: a field is missing or no text.
    """
    instruction = need_text(row, "instruction", "")
    given = optional_text(row, "input")
    answer = need_text(row, "output", "")
    wording = _WITH_INPUT if given else _WITHOUT_INPUT
    prompt = wording.format(instruction=instruction, input=given)
    return prompt_and_answer(prompt, answer, train_on_inputs=options.train_on_inputs)
