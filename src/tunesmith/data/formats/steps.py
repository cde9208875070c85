"""``stepwise_supervised``: a solution in steps, each of them right or wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.data.formats.fields import kind_of, need_list, need_text, need_text_list
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.records import RowError, Steps


def read_steps(row: Mapping[str, Any], options: FormatOptions) -> Steps:
    """``prompt``, the steps of ``completions`` and their ``labels``, true or false each.

    Raises:
        RowError: a column is missing or not as it should be, or there are not as many labels as
            steps.
    """
    prompt, steps = need_text(row, "prompt", ""), need_text_list(row, "completions")
    labels = need_list(row, "labels")
    if len(labels) != len(steps):
        message = f"has {len(labels)} labels for {len(steps)} completions"
        raise RowError("labels", message, "give every completion one label")
    read = tuple(_label(label, f"labels[{number}]") for number, label in enumerate(labels))
    return Steps(
        prompt,
        tuple(steps),
        read,
        separator=options.step_separator,
        last_only=options.train_on_last_step_only,
        longest=options.max_completion_length,
    )


def _label(value: Any, place: str) -> bool:
    if value in (0, 1) and isinstance(value, int):
        return bool(value)
    kind = f"is {value}" if isinstance(value, float) else f"is {kind_of(value)}"
    raise RowError(place, f"{kind}, want true or false", "soft labels are not read")
