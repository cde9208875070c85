"""``input_output``: pieces of text, each with its own say about training; nothing is added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.data.formats.fields import kind_of, need, need_text
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.records import RowError, Segment, Segments

_FIX = 'want [{"label": true, "text": "..."}, ...]; `label: true` trains the text'


def read_input_output(row: Mapping[str, Any], options: FormatOptions) -> Segments:
    """The pieces of ``segments``; no token is added before, between or after them.

    Raises:
        RowError: the list or a piece of it is not as it should be.
    """
    pieces = need(row, "segments", "")
    if not isinstance(pieces, list) or not pieces:
        kind = "an empty list" if pieces == [] else kind_of(pieces)
        raise RowError("segments", f"is {kind}", _FIX)
    read = [_read_piece(piece, number) for number, piece in enumerate(pieces)]
    train_all = options.train_on_inputs
    return Segments(
        tuple(Segment(piece.text, piece.train or train_all) for piece in read), special_tokens=False
    )


def _read_piece(piece: Any, number: int) -> Segment:
    place = f"segments[{number}]"
    if not isinstance(piece, Mapping):
        raise RowError(place, f"is {kind_of(piece)}, want an object", _FIX)
    try:
        text, label = need_text(piece, "text", ""), need(piece, "label", "")
    except RowError as error:
        raise RowError(f"{place}.{error.field}", error.message, _FIX) from error
    if not isinstance(label, bool):
        raise RowError(f"{place}.label", f"is {kind_of(label)}, want true or false", _FIX)
    return Segment(text, label)
