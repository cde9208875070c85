"""Into how many samples a conversation goes, for templates that change earlier turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from tunesmith.data.chat import Beginnings
from tunesmith.data.masking import Part
from tunesmith.data.origin import Tracked, plain, spans_of
from tunesmith.data.records import Message, RowError
from tunesmith.data.shape import ASSISTANT

_MOST_TURNS = 512
"""So many trained turns of a row are each rendered with all that stands before them."""

_PROBED_TURNS = 64
"""Of a row with more, so many are: enough to see whether the template changes earlier turns."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One rendering of the first ``length`` messages, and the turns that train in it.

    ``note`` says why the row was not taken whole ("" where it was).
    """

    length: int
    text: Tracked
    part: Part
    note: str = ""


def plan_samples(
    messages: Sequence[Message],
    trained: Sequence[bool],
    beginnings: Beginnings,
    history: Literal["whole", "expand", "last"],
) -> list[Sample]:
    """The samples of a conversation, whose first n messages ``beginnings`` renders.

    A turn may train in a rendering only if the model, asked for that turn, would see the same text
    before it: then the shorter rendering is a prefix of the longer one. Turns for which that holds
    share a sample; where it fails, ``expand`` begins another one and ``last`` drops all but the
    last. ``whole`` trains every turn in the one rendering, whatever the template did.

    Raises:
        RowError: the template refuses the row, or changes earlier turns of one with too many.
    """
    count = len(messages)
    whole = Sample(count, beginnings.tracked(count), Part(range(count), is_last=True))
    turns = [
        number + 1
        for number, message in enumerate(messages)
        if trained[number] and message.role == ASSISTANT
    ]
    if history == "whole" or not turns or (turns == [count] and len(turns) == 1):
        return [whole]
    ends = _sample_ends(_probed(turns), count, beginnings)
    if ends == [count]:
        return [whole]
    if len(turns) > _MOST_TURNS:
        raise RowError(
            "messages",
            f"the template changes earlier turns, and {len(turns):,} turns train: each may need a "
            f"sample of its own, and a row may become {_MOST_TURNS} samples",
            "split the conversation, or set `history: whole`",
        )
    parts = [
        range(start, end)
        for start, end in pairwise([0, *ends])
        if any(trained[start:end])  # a sample in which nothing trains teaches nothing
    ]
    if history == "last":
        note = "the template changes earlier turns: only what follows them trains"
        text = beginnings.tracked(parts[-1].stop)
        return [Sample(parts[-1].stop, text, Part(parts[-1], is_last=True), note)]
    return _expanded(parts, beginnings)


def _probed(turns: Sequence[int]) -> Sequence[int]:
    """The turns whose beginnings are compared: all, or evenly chosen ones of too many."""
    if len(turns) <= _MOST_TURNS:
        return turns
    step = len(turns) / _PROBED_TURNS
    return sorted({turns[int(number * step)] for number in range(_PROBED_TURNS)} | {turns[-1]})


def _sample_ends(turns: Sequence[int], count: int, beginnings: Beginnings) -> list[int]:
    """How many messages each sample holds, ascending."""
    ends = [count]
    for turn in reversed(turns):
        if turn != ends[-1] and not _is_prefix(beginnings, turn, ends[-1]):
            ends.append(turn)
    return ends[::-1]


def _is_prefix(beginnings: Beginnings, shorter: int, longer: int) -> bool:
    """Whether the longer text starts with the shorter one, up to its last message's last character.

    Mostly it starts with all of it, and then nobody needs to know where that character is.
    """
    whole = beginnings.plain(longer)
    if whole.startswith(beginnings.plain(shorter)):
        return True
    text = beginnings.tracked(shorter)
    end = max(
        (
            end
            for _, end, origin in spans_of(text)
            if origin is not None and origin.message == shorter - 1
        ),
        default=len(text),
    )
    return whole.startswith(plain(text)[:end])


def _expanded(parts: Sequence[range], beginnings: Beginnings) -> list[Sample]:
    became = "1 sample" if len(parts) == 1 else f"{len(parts)} samples"
    note = f"the template changes earlier turns: the row became {became}"
    samples: list[Sample] = []
    for part in parts:
        is_last = part == parts[-1]
        text = beginnings.tracked(part.stop)
        samples.append(
            Sample(part.stop, text, Part(part, is_last=is_last), "" if samples else note)
        )
    return samples
