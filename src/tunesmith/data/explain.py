"""Every token of a row of any kind, with where it came from and why it trains."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunesmith.data.compared import samples_of
from tunesmith.data.records import (
    Conversation,
    Judged,
    Preference,
    Prompts,
    Record,
    Segments,
    Source,
    Steps,
)
from tunesmith.data.render import Renderer
from tunesmith.data.samples import PromptSample, StepSample
from tunesmith.data.tokens import NO_TARGET, TokenView

_HERE = Source(0, "", 0)
_LONGEST_COLUMN = 200


@dataclass(frozen=True, slots=True)
class ViewedSample:
    """A sample's tokens. ``title`` tells a row's samples apart where it becomes several.

    ``facts`` are what else the row says: whether an answer is wanted, the labels of steps, the
    columns that reward functions get.
    """

    title: str
    tokens: tuple[TokenView, ...]
    facts: tuple[str, ...] = ()


def explain(renderer: Renderer, record: Record, bos_id: int | None) -> list[ViewedSample]:
    """The samples of a record as they are shown; raises ``RowError`` as rendering does."""
    if isinstance(record, Preference):
        sides = (("chosen", record.chosen), ("rejected", record.rejected))
        return [ViewedSample(name, _answer(renderer, side)) for name, side in sides]
    if isinstance(record, Judged):
        label = "wanted" if record.is_good else "unwanted"
        return [ViewedSample(label, _answer(renderer, record.answer))]
    if isinstance(record, Steps | Prompts):
        samples = samples_of(renderer, record, _HERE, bos_id)
        steps = [
            _steps(renderer, record, one)
            for one in samples
            if isinstance(record, Steps) and isinstance(one, StepSample)
        ]
        prompts = [
            _prompt(renderer, one, _number(number, samples))
            for number, one in enumerate(samples, 1)
            if isinstance(one, PromptSample)
        ]
        return [*steps, *prompts]
    views = renderer.explain(record)
    return [ViewedSample(_number(number, views), tuple(one)) for number, one in enumerate(views, 1)]


def _number(number: int, samples: Sequence[object]) -> str:
    return f"{number} of {len(samples)}" if len(samples) > 1 else ""


def _answer(renderer: Renderer, branch: Segments | Conversation) -> tuple[TokenView, ...]:
    return tuple(renderer.explain(branch)[0])


def _steps(renderer: Renderer, record: Steps, sample: StepSample) -> ViewedSample:
    """Prompt and steps; the token that ends a step and carries its label counts as trained."""
    labels = dict(sample.ends)
    lengths = renderer.encoder.encode_each([record.separator, *record.steps])
    separator, steps = len(lengths[0]), [len(ids) for ids in lengths[1:]]
    kept = min(sum(steps) + separator * len(steps), record.longest or len(sample.input_ids))
    start = len(sample.input_ids) - kept
    borders = [start]
    for length in steps:
        borders.append(borders[-1] + length + separator)
    views = []
    for at, view in enumerate(_plain_views(renderer, sample.input_ids.tolist(), "prompt")):
        step = next((n for n, end in enumerate(borders[1:], 1) if start <= at < end), None)
        if step is None:
            views.append(view)
            continue
        place = replace(view, message=step - 1, role="step", field="step")
        if at in labels:
            said = "right" if labels[at] else "wrong"
            views.append(replace(place, weight=1.0, reason=f"end of a step that is {said}"))
        else:
            views.append(replace(place, reason="inside of a step"))
    facts = [f"step {n}: {'right' if ok else 'wrong'}" for n, ok in enumerate(record.labels, 1)]
    return ViewedSample("solution", tuple(views), tuple(facts))


def _prompt(renderer: Renderer, sample: PromptSample, title: str) -> ViewedSample:
    views = _plain_views(renderer, sample.input_ids.tolist(), "prompt")
    return ViewedSample(f"prompt {title}".strip(), tuple(views), tuple(_columns(sample.extras)))


def _columns(extras: Mapping[str, Any]) -> Iterator[str]:
    for name, value in extras.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        cut = text if len(text) <= _LONGEST_COLUMN else f"{text[:_LONGEST_COLUMN]}..."
        yield f"{name}: {cut}"


def _plain_views(renderer: Renderer, ids: Sequence[int], field: str) -> Iterator[TokenView]:
    """Tokens that the model is given and that carry no loss."""
    texts = renderer.encoder.texts_of(ids)
    for number, (token, text) in enumerate(zip(ids, texts, strict=True)):
        reason = f"the {field}: the model is given it" if number else NO_TARGET
        yield TokenView(text, token, 0.0, None, "", field, reason)
