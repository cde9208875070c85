"""``pretokenized``: rows that are token ids already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tunesmith.data.formats.fields import is_whole, kind_of, need_list
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.records import RowError, Tokens

MASKED: Final = -100
"""The label of a token that does not train."""

COLUMNS: Final = frozenset({"input_ids", "attention_mask", "labels"})
"""A row with all of these is tokenized, when the entry names no type."""


def read_pretokenized(row: Mapping[str, Any], options: FormatOptions) -> Tokens:
    """The ids of ``input_ids``, and as trained those whose label is the id itself.

    A label of -100 masks. Ids at either end whose ``attention_mask`` is 0 are padding and left out.

    Raises:
        RowError: a column is missing or no list of whole numbers, the lengths differ, a label is
            another id than its token's, or what is left out as padding has one.
    """
    ids = _numbers(row, "input_ids")
    labels = _numbers(row, "labels")
    has_mask = row.get("attention_mask") is not None
    mask = _numbers(row, "attention_mask") if has_mask else [1] * len(ids)
    for name, values in (("labels", labels), ("attention_mask", mask)):
        if len(values) != len(ids):
            message = f"has {len(values)} numbers, `input_ids` has {len(ids)}"
            raise RowError(name, message, "the columns must be as long as each other")
    bad = next((at for at, token in enumerate(ids) if token < 0), None)
    if bad is not None:
        raise RowError(f"input_ids[{bad}]", f"is {ids[bad]}, no token", "ids begin at 0")
    start, end = _unpadded(mask)
    for at in (*range(start), *range(end, len(ids))):
        if labels[at] != MASKED:
            message = f"is {labels[at]}, and `attention_mask[{at}]` is 0"
            raise RowError(
                f"labels[{at}]",
                message,
                "set the label to -100 where padding is, and the mask to 1 where none is",
            )
    train = tuple(_trains(labels[at], ids[at], at) for at in range(start, end))
    return Tokens(tuple(ids[start:end]), train)


def _numbers(row: Mapping[str, Any], name: str) -> list[int]:
    values = need_list(row, name)
    for number, value in enumerate(values):
        if not is_whole(value) or abs(value) >= 1 << 31:
            fix = "want a list of token ids"
            raise RowError(f"{name}[{number}]", f"is {kind_of(value)}, no token id", fix)
    return values


def _unpadded(mask: Sequence[int]) -> tuple[int, int]:
    """The stretch of the mask that is 1."""
    odd = next((at for at, value in enumerate(mask) if value not in (0, 1)), None)
    if odd is not None:
        place = f"attention_mask[{odd}]"
        raise RowError(place, f"is {mask[odd]}, want 0 or 1", "rows of packed data are not read")
    seen = [at for at, value in enumerate(mask) if value]
    if not seen:
        raise RowError("attention_mask", "is all 0: the row is nothing but padding", "remove it")
    start, end = seen[0], seen[-1] + 1
    if len(seen) != end - start:
        hole = next(at for at in range(start, end) if not mask[at])
        message = f"is 0 at {hole}, between tokens that are seen"
        raise RowError("attention_mask", message, "only padding at an end can be left out")
    return start, end


def _trains(label: int, token: int, at: int) -> bool:
    if label in (MASKED, token):
        return label == token
    message = f"is {label}, and the token there is {token}"
    raise RowError(f"labels[{at}]", message, "a label is its own token, or -100 to mask it")
