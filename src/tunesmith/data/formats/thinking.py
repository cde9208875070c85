"""Reasoning that stands inside of an answer's text, taken out into a key of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.data.records import FieldSpan

_THOUGHT = (
    ("<think>", "</think>"),
    ("<reasoning>", "</reasoning>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)
_SOLUTION = ("<|begin_of_solution|>", "<|end_of_solution|>")


def split_thinking(
    fields: Mapping[str, Any], spans: list[FieldSpan], thinking_key: str
) -> tuple[dict[str, Any], list[FieldSpan]]:
    """The turn with the thought that opens its content under ``thinking_key``; the spans follow.

    Blanks around the thought and in front of the answer go; so do the marks around a solution. A
    turn that begins otherwise, or has a reasoning of its own, stays as it is.
    """
    content = fields.get("content")
    if not isinstance(content, str) or fields.get(thinking_key) is not None:
        return dict(fields), spans
    for opening, closing in _THOUGHT:
        start = _first_letter(content)
        end = content.find(closing, start) if content.startswith(opening, start) else -1
        if end >= 0:
            thought = _trimmed(content, start + len(opening), end)
            answer = _answer(content, end + len(closing))
            split = {thinking_key: content[slice(*thought)], "content": content[slice(*answer)]}
            moved = [
                FieldSpan(key, max(span.start, low) - low, min(span.end, high) - low, span.weight)
                for key, (low, high) in ((thinking_key, thought), ("content", answer))
                for span in spans
                if span.field == "content" and span.start < high and low < span.end
            ]
            return {**fields, **split}, moved + [s for s in spans if s.field != "content"]
    return dict(fields), spans


def _answer(content: str, start: int) -> tuple[int, int]:
    """Where the answer behind the thought stands."""
    opening, closing = _SOLUTION
    low, high = _trimmed(content, start, len(content))
    answer = content[low:high]
    if answer.startswith(opening) and answer.endswith(closing):
        return _trimmed(content, low + len(opening), high - len(closing))
    return low, len(content)


def _first_letter(content: str) -> int:
    return len(content) - len(content.lstrip())


def _trimmed(content: str, start: int, end: int) -> tuple[int, int]:
    """The span without the blanks at both of its ends."""
    text = content[start:end]
    low = start + len(text) - len(text.lstrip())
    return low, max(low, start + len(text.rstrip()))
