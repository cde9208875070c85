"""Tokens that axolotl trains otherwise, each with the reason that our own account of it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.data.records import Conversation, Record
from tunesmith.data.render import Renderer
from tunesmith.data.samples import TokenSample

END = "end of turn"
"""axolotl masks the end of a turn that is neither the eos nor in eot_tokens: a model trained so is
never taught to stop."""
INSIDE = "template text in a body"
"""axolotl masks what the template writes between the generation prompt and the first field
(a blank, `<think>`): a served model has to write it, and never learned to."""
BORDER = "reaches over a border"
"""axolotl trains a token that holds both a part of the header and the start of the answer: the
server's prompt ends inside of it, so that the model is never in the place where it was learned."""
SILENT = "the end of a silent turn"
"""axolotl trains the end of a turn whose spans all say that they do not train: where it should stop
is all that the model would learn of an answer that was taken out."""


def trained_in(row: Mapping[str, Any]) -> list[bool]:
    """Which tokens of a recorded row axolotl trains; the first one, which nothing predicts, not."""
    flags = [False] * len(row["input_ids"])
    for start, end in row["train"]:
        flags[start:end] = [True] * (end - start)
    return [False, *flags[1:]]


def kind_of(view: Any, *, ours: bool) -> str:
    """Which known difference a token belongs to; its own text where it is none."""
    if ours and view.reason == "end of turn":
        return END
    if ours and view.field == "template":
        return INSIDE
    if ours and view.text.startswith(" ") and view.message is not None:
        return INSIDE
    if not ours and view.reason == "reaches over a border of what trains":
        return BORDER
    if not ours and view.reason == "an end of turn that does not train":
        return SILENT
    return f"unexplained: {view}"


def differences(
    made: Renderer, record: Record, sample: TokenSample, theirs: Sequence[bool]
) -> set[str]:
    """The kinds of tokens that train on one side alone."""
    ours = [weight > 0 for weight in sample.target_weights().tolist()]
    if ours == list(theirs):
        return set()
    if not isinstance(record, Conversation):
        return {f"unexplained: {sample.source}"}
    (views,) = made.explain(record)
    kinds = set()
    for at, (view, mine, his) in enumerate(zip(views, ours, theirs, strict=False)):
        ends = mine and at + 1 < len(views) and kind_of(views[at + 1], ours=True) == END
        if mine != his:
            kinds.add(END if ends else kind_of(view, ours=mine))
    return kinds
