"""``metharme`` and ``pygmalion``: markup of models for play."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tunesmith.data.formats.fields import need_list, need_object, need_text
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.records import RowError, Segment, Segments

_ENDS: Final = 3
"""Metharme's answers end with so many end tokens."""

_START: Final = "\n<START>"
_TURN: Final = 'want {"role": "human", "value": "..."}'


def read_metharme(row: Mapping[str, Any], options: FormatOptions) -> Segments:
    """The prompt as it stands, and the generation, which trains with three end tokens.

    Raises:
        RowError: a column is missing or no text.
    """
    prompt, answer = need_text(row, "prompt", ""), need_text(row, "generation", "")
    pieces = [Segment(prompt, options.train_on_inputs)]
    if answer:
        pieces.append(Segment(answer, train=True, eos=_ENDS))
    return Segments(tuple(pieces), has_markup=True)


def read_pygmalion(row: Mapping[str, Any], options: FormatOptions) -> Segments:
    """Persona and turns in Pygmalion's markup; the bot's words and the end of its turns train.

    Raises:
        RowError: a turn is not as it should be.
    """
    pieces: list[Segment] = []
    for number, value in enumerate(need_list(row, "conversations")):
        place = f"conversations[{number}]"
        turn = need_object(value, place, _TURN)
        try:
            pieces += _turn(need_text(turn, "role", ""), need_text(turn, "value", ""), options)
        except RowError as error:
            raise RowError(f"{place}.{error.field}", error.message, error.fix) from error
    return Segments(tuple(pieces), closed=False, has_markup=True)


def _turn(role: str, text: str, options: FormatOptions) -> list[Segment]:
    if role == "system":
        persona = text.removesuffix(_START).strip()
        return [Segment("<|system|>Persona: " + persona, options.train_on_inputs)]
    if role == "human":
        return [Segment("<|user|> " + text.strip(), options.train_on_inputs)]
    if role == "bot":
        head = Segment("<|model|>", options.train_on_inputs)
        return [head, Segment(" " + text.strip(), train=True, glued=True, eos=1)]
    raise RowError("role", f"the role {role[:40]!r} is unknown", "one of: `system`, `human`, `bot`")
