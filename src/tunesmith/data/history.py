"""Into how many samples a conversation goes, for templates that change earlier turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tunesmith.data.masking import Part
from tunesmith.data.origin import Tracked, plain, spans_of
from tunesmith.data.records import Message
from tunesmith.data.shape import ASSISTANT

_CHECKED_TURNS = 32
"""Turns of a long row whose prefix is rendered; the time must stay linear in the turns."""


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
    render: Callable[[int], Tracked],
    history: Literal["whole", "expand", "last"],
) -> list[Sample]:
    """The samples of a conversation; ``render(n)`` renders its first n messages.

    A turn may train in a rendering only if the model, asked for that turn, would see the same text
    before it: then the shorter rendering is a prefix of the longer one. Turns for which that holds
    share a sample; where it fails, ``expand`` begins another one and ``last`` drops all but the
    last. ``whole`` trains every turn in the one rendering, whatever the template did.
    """
    count = len(messages)
    whole = Sample(count, render(count), Part(range(count), is_last=True))
    turns = [
        number + 1
        for number, message in enumerate(messages)
        if trained[number] and message.role == ASSISTANT
    ]
    if history == "whole" or not turns or (turns == [count] and len(turns) == 1):
        return [whole]
    ends = _sample_ends(_thinned(turns), count, render)
    if ends == [count]:
        return [whole]
    return _last(ends, render) if history == "last" else _expanded(ends, render)


def _thinned(turns: Sequence[int]) -> list[int]:
    """The turns to check: all of a short row, evenly chosen ones of a long one."""
    if len(turns) <= _CHECKED_TURNS:
        return list(turns)
    step = len(turns) / _CHECKED_TURNS
    return sorted({turns[int(number * step)] for number in range(_CHECKED_TURNS)} | {turns[-1]})


def _sample_ends(turns: Sequence[int], count: int, render: Callable[[int], Tracked]) -> list[int]:
    """How many messages each sample holds, ascending."""
    ends = [count]
    for turn in reversed(turns):
        if turn != ends[-1] and not _is_prefix(render(turn), render(ends[-1]), turn - 1):
            ends.append(turn)
    return ends[::-1]


def _is_prefix(shorter: Tracked, longer: Tracked, message: int) -> bool:
    """Whether the longer text starts with the shorter one, up to that message's last character."""
    end = max(
        (
            end
            for _, end, origin in spans_of(shorter)
            if origin is not None and origin.message == message
        ),
        default=len(shorter),
    )
    return plain(longer).startswith(plain(shorter)[:end])


def _expanded(ends: Sequence[int], render: Callable[[int], Tracked]) -> list[Sample]:
    note = f"the template changes earlier turns: the row became {len(ends)} samples"
    samples = []
    start = 0
    for end in ends:
        part = Part(range(start, end), is_last=end == ends[-1])
        samples.append(Sample(end, render(end), part, "" if start else note))
        start = end
    return samples


def _last(ends: Sequence[int], render: Callable[[int], Tracked]) -> list[Sample]:
    note = "the template changes earlier turns: only what follows them trains"
    start = ends[-2]
    return [Sample(ends[-1], render(ends[-1]), Part(range(start, ends[-1]), is_last=True), note)]
