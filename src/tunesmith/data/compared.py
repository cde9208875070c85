"""Rows of preference, judgement, steps and prompts as samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunesmith.data.encode import Encoder
from tunesmith.data.records import (
    Conversation,
    Judged,
    Preference,
    Prompts,
    Record,
    RowError,
    Segments,
    Source,
    Steps,
)
from tunesmith.data.render import Renderer
from tunesmith.data.samples import (
    JudgedSample,
    PairSample,
    PromptSample,
    Sample,
    StepSample,
    TokenSample,
)

_REMOVE = "remove the row"


def samples_of(
    renderer: Renderer, record: Record, source: Source, bos_id: int | None
) -> tuple[Sample, ...]:
    """The samples of any record. ``bos_id`` opens a solution in steps; None opens it with nothing.

    Raises:
        RowError: the row cannot be rendered, or an answer has nothing that trains.
    """
    if isinstance(record, Preference | Judged):
        rows = [renderer.render(branch, source).samples for branch in branches_of(record)]
        return (compared(record, rows),)
    if isinstance(record, Steps):
        return (steps_of(renderer.encoder, record, source, bos_id),)
    if isinstance(record, Prompts):
        return tuple(
            PromptSample(renderer.ask(item.asked), item.extras, str(source))
            for item in record.items
        )
    return renderer.render(record, source).samples


def branches_of(record: Preference | Judged) -> tuple[Segments | Conversation, ...]:
    """The answers of a row, each after its prompt: what is rendered by itself."""
    if isinstance(record, Preference):
        return record.chosen, record.rejected
    return (record.answer,)


def compared(
    record: Preference | Judged, rows: Sequence[Sequence[TokenSample]]
) -> PairSample | JudgedSample:
    """The sample of a row whose answers were rendered; ``rows`` holds the samples of each.

    Raises:
        RowError: an answer has nothing that trains, or both are the same.
    """
    if isinstance(record, Judged):
        return JudgedSample(_only(rows[0], "completion"), record.is_good)
    chosen, rejected = _only(rows[0], "chosen"), _only(rows[1], "rejected")
    if np.array_equal(chosen.input_ids, rejected.input_ids):
        raise RowError("rejected", "is the chosen answer: there is nothing to prefer", _REMOVE)
    return PairSample(chosen, rejected)


def _only(samples: Sequence[TokenSample], field: str) -> TokenSample:
    """The one sample of an answer after its prompt."""
    if len(samples) != 1 or samples[0].total_weight <= 0:
        message = "the answer has no token of its own that trains"
        raise RowError(field, message, "use another template, or remove the row")
    return samples[0]


def steps_of(encoder: Encoder, record: Steps, source: Source, bos_id: int | None) -> StepSample:
    """Prompt and steps are tokenized one by one, and each step ends with the separator's tokens."""
    try:
        prompt, separator, *steps = encoder.encode_each(
            [record.prompt, record.separator, *record.steps]
        )
    except UnicodeEncodeError as error:
        message = "a text holds half of a surrogate pair"
        raise RowError("completions", message, "remove it: it is no character") from error
    opening = [] if bos_id is None else [bos_id]
    ids: list[int] = []
    ends = []
    for number, (step, label) in enumerate(zip(steps, record.labels, strict=True)):
        if not step and not separator:
            raise RowError(f"completions[{number}]", "has no token", "remove the step")
        ids += step + separator
        ends.append((len(ids) - 1, label))
    longest = len(ids) if record.longest is None else record.longest
    start = len(opening) + len(prompt)
    wanted = ends[-1:] if record.last_only else ends
    kept = tuple((start + end, label) for end, label in wanted if end < longest)
    whole = np.asarray([*opening, *prompt, *ids[:longest]], dtype=np.int32)
    return StepSample(whole, kept, str(source))
