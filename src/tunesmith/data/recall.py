"""Masks of earlier rows, recalled for rows that are laid out alike.

What of a text trains follows from the template's own text, from where the fields stand in it, and
from the row's wishes. So where two rows have one ``Layout`` and one wish, their masks lie in the
same places of it. (Only a trained turn of another role than the assistant's is measured by letters:
the blanks before it. Those masks are not kept.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tunesmith.data.layout import Laid, Layout
from tunesmith.data.masking import Mask, Part
from tunesmith.data.records import Message
from tunesmith.data.shape import ASSISTANT
from tunesmith.data.turns import Stop, Turn

_MOST_MASKS = 4096

_Wish = tuple[Layout, Part, tuple[bool, ...], tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class _Kept:
    """A mask whose positions, in the order of ``_positions``, are places in a layout."""

    mask: Mask
    places: tuple[tuple[int, int], ...]

    def at(self, starts: Sequence[int]) -> Mask:
        """The mask of the row whose parts begin at ``starts``."""
        found = iter([starts[number] + distance for number, distance in self.places])
        spans = tuple((next(found), next(found), weight) for _, _, weight in self.mask.spans)
        turns = tuple(_moved(turn, found) for turn in self.mask.turns)
        return Mask(spans, turns, self.mask.lints)


class MaskMemory:
    """The masks of one data set's template and settings."""

    def __init__(self) -> None:
        self._known: dict[_Wish, _Kept | None] = {}

    def recall(
        self, laid: Laid, part: Part, messages: Sequence[Message], trained: Sequence[bool]
    ) -> Mask | None:
        """The mask of a row; None where no earlier one says it."""
        kept = self._known.get(_wish(laid, part, messages, trained))
        return kept.at(laid.starts) if kept is not None else None

    def keep(
        self,
        laid: Laid,
        part: Part,
        messages: Sequence[Message],
        trained: Sequence[bool],
        mask: Mask,
    ) -> None:
        """Keep a row's mask for rows like it."""
        wish = _wish(laid, part, messages, trained)
        if wish in self._known:
            return
        if len(self._known) >= _MOST_MASKS:
            self._known.clear()
        self._known[wish] = _read(laid, part, messages, trained, mask)


def _wish(laid: Laid, part: Part, messages: Sequence[Message], trained: Sequence[bool]) -> _Wish:
    weights = tuple(message.weight for message in messages)
    return laid.layout, part, tuple(trained[: len(messages)]), weights


def _read(
    laid: Laid, part: Part, messages: Sequence[Message], trained: Sequence[bool], mask: Mask
) -> _Kept | None:
    if any(trained[turn] and messages[turn].role != ASSISTANT for turn in part.turns):
        return None
    places = [laid.place(position) for position in _positions(mask)]
    found = tuple(place for place in places if place is not None)
    return _Kept(mask, found) if len(found) == len(places) else None


def _positions(mask: Mask) -> Iterator[int]:
    """Every position in a mask."""
    for start, end, _ in mask.spans:
        yield from (start, end)
    for turn in mask.turns:
        yield from (turn.start, turn.first, turn.end)
        for stop in turn.stops:
            yield from (stop.start, stop.end)


def _moved(turn: Turn, positions: Iterator[int]) -> Turn:
    """The turn at the next of the positions."""
    start, first, end = next(positions), next(positions), next(positions)
    stops = tuple(Stop(next(positions), next(positions), stop.is_eos) for stop in turn.stops)
    return Turn(turn.message, turn.trains, start, first, end, stops)
