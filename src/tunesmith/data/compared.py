"""Rows of preference, judgement, steps and prompts as samples."""

from __future__ import annotations

import numpy as np

from tunesmith.data.encode import Encoder
from tunesmith.data.overlong import LengthRule, piece
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


def samples_of(
    renderer: Renderer, record: Record, source: Source, bos_id: int | None
) -> tuple[Sample, ...]:
    """The samples of any record. ``bos_id`` opens a solution in steps; None opens it with nothing.

    Raises:
        RowError: the row cannot be rendered, or an answer has nothing that trains.
    """
    if isinstance(record, Preference):
        chosen = _branch(renderer, record.chosen, source, "chosen")
        rejected = _branch(renderer, record.rejected, source, "rejected")
        return (PairSample(chosen, rejected),)
    if isinstance(record, Judged):
        answer = _branch(renderer, record.answer, source, "completion")
        return (JudgedSample(answer, record.is_good),)
    if isinstance(record, Steps):
        return (_steps(renderer.encoder, record, source, bos_id),)
    if isinstance(record, Prompts):
        return tuple(
            PromptSample(renderer.ask(item.asked), item.extras, str(source))
            for item in record.items
        )
    return renderer.render(record, source).samples


def _branch(
    renderer: Renderer, record: Segments | Conversation, source: Source, field: str
) -> TokenSample:
    """The one sample of an answer after its prompt."""
    samples = renderer.render(record, source).samples
    if len(samples) != 1 or samples[0].total_weight <= 0:
        message = "the answer has no token of its own that trains"
        raise RowError(field, message, "use another template, or remove the row")
    return samples[0]


def _steps(encoder: Encoder, record: Steps, source: Source, bos_id: int | None) -> StepSample:
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


def fit_pair(pair: PairSample, rule: LengthRule) -> PairSample | None:
    """The pair within the length rule, None where it is dropped.

    A pair is too long where either branch is. ``truncate`` cuts the answers, never the prompt; a
    prompt that leaves no room for an answer drops the pair.

    Raises:
        RowError: it is too long, and that is an error (``split`` cannot cut a pair).
    """
    branches = (pair.chosen, pair.rejected)
    longest = max(map(len, branches))
    if longest <= rule.longest:
        return pair
    if rule.policy == "drop":
        return None
    if rule.policy == "truncate":
        cut = [piece(branch, 0, rule.longest) for branch in branches]
        return PairSample(*cut) if all(branch.total_weight > 0 for branch in cut) else None
    raise RowError(
        "",
        f"has {longest} tokens, more than sequence_len ({rule.longest})",
        "raise `sequence_len`, or set `excess_length_strategy` to drop or truncate",
    )
