"""A turn's text in parts or with spans: the whole text, and what of it weighs how much."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tunesmith.data.formats.fields import kind_of
from tunesmith.data.formats.media import refuse_part
from tunesmith.data.formats.tools import decode
from tunesmith.data.records import FieldSpan, RowError

_PART = 'want {"type": "text", "text": "..."}'
_DETAIL = 'want a list: [{"begin_offset": 0, "end_offset": 9, "train": true}, ...]'
_REASONING = frozenset({"reasoning", "thinking"})
_WEIGHTS = ("weight", "loss_weight")


@dataclass(slots=True)
class Joined:
    """Parts put together: texts by the template's key, their spans, and the tool calls.

    ``is_flagged``: some part says whether it trains, so that the spans count.
    """

    texts: dict[str, str] = field(default_factory=dict)
    spans: list[FieldSpan] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)
    is_flagged: bool = False


def join_parts(parts: Sequence[Any], place: str, key: str, thinking_key: str) -> Joined:
    """The parts of a field as text under ``key``, those of reasoning under ``thinking_key``.

    A part's text is its ``text``, ``content`` or ``value``; ``train``, ``weight`` or
    ``loss_weight`` say what it weighs, 1 where nothing does.

    Raises:
        RowError: a part is none, or of a type that is no text.
    """
    joined = Joined({key: ""})
    for number, part in enumerate(parts):
        _join_part(joined, part, f"{place}[{number}]", key, thinking_key)
    if not joined.is_flagged:
        joined.spans.clear()
    return joined


def _join_part(joined: Joined, part: Any, place: str, key: str, thinking_key: str) -> None:
    if not isinstance(part, Mapping):
        raise RowError(place, f"the part is {kind_of(part)}, not an object", _PART)
    kind = part.get("type", "text")
    if kind == "tool_call":
        joined.calls.append(decode(part.get("value"), f"{place}.value"))
        return
    if kind in _REASONING:
        key = thinking_key
    elif kind != "text":
        refuse_part(part, f"{place}.type")
        raise RowError(
            f"{place}.type", f"the part's type is {kind!r}; only text can be read", _PART
        )
    names = ("text", "content", "value", *(_REASONING if kind in _REASONING else ()))
    text = next((part[name] for name in names if part.get(name) is not None), None)
    if not isinstance(text, str):
        raise RowError(f"{place}.text", f"is {kind_of(text)}, want text", _PART)
    before = joined.texts.get(key, "")
    weight = wish_of(part, place)
    joined.is_flagged |= weight is not None
    joined.texts[key] = before + text
    if text:
        weight = 1.0 if weight is None else weight
        joined.spans.append(FieldSpan(key, len(before), len(before) + len(text), weight))


def wish_of(part: Mapping[str, Any], place: str) -> float | None:
    """What the part shall weigh: its ``train`` flag before its weight; None where it has neither.

    Raises:
        RowError: the flag or the weight is none.
    """
    train = part.get("train")
    if train is not None:
        return float(as_flag(train, f"{place}.train"))
    name = next((name for name in _WEIGHTS if part.get(name) is not None), None)
    return None if name is None else as_weight(part[name], f"{place}.{name}")


def as_flag(value: Any, place: str) -> bool:
    """The value, which must be true or false.

    Raises:
        RowError: it is something else.
    """
    if isinstance(value, bool):
        return value
    raise RowError(place, f"is {kind_of(value)}, want true or false", "correct it")


def as_weight(value: Any, place: str) -> float:
    """The value, which must be a number from 0.

    Raises:
        RowError: it is something else.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0 <= value < math.inf:
        return float(value)
    raise RowError(place, f"is {kind_of(value)}, want a number from 0", "correct it")


def read_detail(value: Any, text: str, place: str) -> list[FieldSpan]:
    """The spans of the content that ``message_field_training_detail`` gives.

    ``end_offset`` is the last character's. What no span covers does not train.

    Raises:
        RowError: a span is none, lies outside of the text, or overlaps another one.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise RowError(place, f"is {kind_of(value)}, not a list of spans", _DETAIL)
    spans = sorted(
        (_read_span(span, text, f"{place}[{number}]") for number, span in enumerate(value)),
        key=lambda span: span.start,
    )
    for left, right in pairwise(spans):
        if right.start < left.end:
            message = f"the spans {_shown(left)} and {_shown(right)} overlap"
            raise RowError(place, message, "let each character belong to one span")
    return spans


def _shown(span: FieldSpan) -> str:
    return f"{span.start} to {span.end - 1}"


def _read_span(span: Any, text: str, place: str) -> FieldSpan:
    if not isinstance(span, Mapping):
        raise RowError(place, f"the span is {kind_of(span)}, not an object", _DETAIL)
    start, end = (_offset(span, name, place) for name in ("begin_offset", "end_offset"))
    if not 0 <= start <= end < len(text):
        raise RowError(
            place,
            f"begins at {start} and ends at {end}; the content has {len(text)} characters, "
            "counted from 0",
            "give the first and the last character's place",
        )
    weight = wish_of(span, place)
    if weight is None:
        raise RowError(place, "does not say whether it trains", _DETAIL)
    return FieldSpan("content", start, end + 1, weight)


def _offset(span: Mapping[str, Any], name: str, place: str) -> int:
    offset = span.get(name)
    if isinstance(offset, int) and not isinstance(offset, bool):
        return offset
    raise RowError(f"{place}.{name}", f"is {kind_of(offset)}, want a whole number", _DETAIL)
