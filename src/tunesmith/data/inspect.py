"""Samples as lines for a terminal: what trains, what does not, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from tunesmith.data.tokens import TokenView

_TRAINED = "\x1b[4;32m"
_MASKED = "\x1b[2m"
_END = "\x1b[0m"

_LEGEND_COLOUR = f"{_TRAINED}trained{_END}  {_MASKED}masked{_END}"
_LEGEND_PLAIN = "[trained]  masked"
_WRITTEN = {"\n": "⏎\n", "\t": "⇥"}
"""How frequent control characters are shown; a line feed still ends the line."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample as it is shown: tokens, what else its row says, and what is odd about the row."""

    title: str
    tokens: Sequence[TokenView]
    facts: Sequence[str] = ()
    notes: Sequence[str] = ()


def show(samples: Sequence[Sample], *, colour: bool, reasons: bool = False) -> Iterator[str]:
    """Lines that show each sample under its title, tokens marked by whether they train.

    Below the title stands what else its row says, and what is odd about it. With ``colour`` trained
    tokens are green and underlined, masked ones dim; without it trained stretches stand in
    brackets. ``reasons`` adds a table of stretches with origin and reason.
    """
    yield _LEGEND_COLOUR if colour else _LEGEND_PLAIN
    for sample in samples:
        views = sample.tokens
        n_trained = sum(view.weight > 0 for view in views)
        yield ""
        yield f"{sample.title}: {len(views):,} tokens, {n_trained:,} trained"
        yield from (f"  {_on_a_line(fact)}" for fact in sample.facts)
        yield from (f"  odd: {_on_a_line(note)}" for note in sample.notes)
        yield from _marked(views, colour=colour).split("\n")
        if reasons:
            yield from _table(views)


def _on_a_line(text: str) -> str:
    return _visible(text).replace("\n", "")


def _marked(views: Sequence[TokenView], *, colour: bool) -> str:
    """The text of all tokens, its stretches marked, control characters made visible."""
    parts = []
    for stretch in _stretches(views, lambda view: (view.weight > 0, _partial(view))):
        text = "".join(_visible(view.text) for view in stretch)
        trained = stretch[0].weight > 0
        weight = _partial(stretch[0])
        if not colour:
            parts.append(f"[{text}{weight}]" if trained else text)
            continue
        style = _TRAINED if trained else _MASKED
        # The style is given again after each line feed: pagers and prefixes cut lines apart.
        parts.append("\n".join(f"{style}{line}{_END}" for line in f"{text}{weight}".split("\n")))
    return "".join(parts)


def _table(views: Sequence[TokenView]) -> Iterator[str]:
    """A line for each stretch of one origin and reason: tokens, origin, reason, text."""
    at = 0
    for stretch in _stretches(views, _place_and_reason):
        first, end = stretch[0], at + len(stretch)
        text = _short("".join(view.text for view in stretch))
        mark = "+" if first.weight > 0 else "-"
        yield f"{mark} {at:>6}..{end:<6} {_place(first):<28} {first.reason:<32} {text}"
        at = end


def _place(view: TokenView) -> str:
    if view.message is None:
        return view.field
    number = view.message + 1
    return f"step {number}" if view.role == "step" else f"turn {number} {view.role} {view.field}"


def _place_and_reason(view: TokenView) -> tuple[int | None, str, str, float]:
    return view.message, view.field, view.reason, view.weight


def _stretches(
    views: Sequence[TokenView], of: Callable[[TokenView], object]
) -> Iterator[list[TokenView]]:
    for _, group in groupby(views, key=of):
        yield list(group)


def _partial(view: TokenView) -> str:
    """The weight of a token that trains with another one than 1."""
    return f"×{view.weight:g}" if view.weight not in (0, 1) else ""


def _visible(text: str) -> str:
    """The text with what would not be seen, or would steer the terminal, written out."""
    return "".join(
        letter if letter.isprintable() else _WRITTEN.get(letter) or _escaped(letter)
        for letter in text
    )


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def _short(text: str, width: int = 40) -> str:
    line = repr(text)
    return line if len(line) <= width else f"{line[: width - 4]}...{line[-1]}"
