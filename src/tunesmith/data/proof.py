"""Checks of single rows that tracking and templates are what masks take them for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.data.history import Sample
from tunesmith.data.instrument import CompiledTemplate
from tunesmith.data.masking import Mask
from tunesmith.data.origin import Origin, Tracked, plain, spans_of
from tunesmith.data.records import Conversation, Lint, RowError
from tunesmith.data.shape import ASSISTANT

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_TURNED = str.maketrans(
    _LETTERS + _LETTERS.upper(),
    _LETTERS[1:] + _LETTERS[0] + _LETTERS[1:].upper() + "A",
)
_LEFT_ALONE = re.compile(r"<[^<>]*>|\{[^{}]*\}|&\w+;|\\\w")
"""Marks that templates may read inside of a text (``</think>``): their letters stay."""


def turn_letters(text: str) -> str:
    """The text with every letter replaced by the next one, marks in brackets left alone."""
    parts = []
    end = 0
    for match in _LEFT_ALONE.finditer(text):
        parts += [text[end : match.start()].translate(_TURNED), match.group()]
        end = match.end()
    return "".join([*parts, text[end:].translate(_TURNED)])


def prove_origins(record: Conversation, compiled: CompiledTemplate, *, seed: int) -> None:
    """Raise ``RowError`` unless changing a field's letters moves exactly what carries its origin.

    The field is chosen by ``seed``. A template that reads the field and prints something else for
    the changed letters proves nothing, and the next field is tried.
    """
    messages = [dict(message.fields) for message in record.messages]
    tracked = compiled.render(messages, record.tools, record.variables)
    fields = [
        Origin(number, key)
        for number, message in enumerate(messages)
        for key, value in message.items()
        if key != "role" and isinstance(value, str) and turn_letters(value) != value
    ]
    for offset in range(min(len(fields), 3)):
        origin = fields[(seed + offset) % len(fields)]
        moved = _moved(record, compiled, messages, origin, plain(tracked))
        if moved is not None:
            _compare(tracked, origin, moved)
            return


def _moved(
    record: Conversation,
    compiled: CompiledTemplate,
    messages: Sequence[Mapping[str, Any]],
    origin: Origin,
    before: str,
) -> set[int] | None:
    """The positions that change with a field's letters; None if the text was built differently."""
    changed = [dict(message) for message in messages]
    changed[origin.message][origin.field] = turn_letters(messages[origin.message][origin.field])
    try:
        after = compiled.render_plain(changed, record.tools, record.variables)
    except Exception:  # the template refuses the changed text
        return None
    if len(after) != len(before):
        return None
    return {at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new}


def _compare(tracked: Tracked, origin: Origin, moved: set[int]) -> None:
    text = plain(tracked)
    carries = {
        at
        for start, end, found in spans_of(tracked)
        if found is not None and found[:2] == origin[:2]
        for at in range(start, end)
    }
    strangers = moved - carries
    if strangers:
        at = min(strangers)
        raise RowError(
            f"messages[{origin.message}].{origin.field}",
            f"text of this field is printed at {text[max(at - 20, 0) : at + 20]!r}, "
            "where its origin was lost",
            "use a template that prints its fields in a simpler way, and report this one",
        )


def prove_prompt(
    record: Conversation, compiled: CompiledTemplate, sample: Sample, mask: Mask
) -> list[Lint]:
    """A finding unless a server's prompt for the first trained turn opens the sample's text."""
    first = next(
        (
            turn
            for turn in mask.turns
            if turn.trains and record.messages[turn.message].role == ASSISTANT
        ),
        None,
    )
    if first is None or first.message == 0:
        return []
    messages = [message.fields for message in record.messages[: first.message]]
    try:
        prompt = compiled.render_plain(messages, record.tools, record.variables, prompt=True)
    except Exception:  # the template takes no conversation that ends here
        return []
    if plain(sample.text).startswith(prompt):
        return []
    return [
        Lint(
            "prompt-differs",
            f"turn {first.message + 1}: a server asked for this turn would be given "
            f"{prompt[-60:]!r}, which is not how the row opens it",
        )
    ]
