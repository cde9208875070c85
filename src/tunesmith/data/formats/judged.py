"""Answers that are good or bad, one a row, for KTO: plain, or in ChatML or Llama 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tunesmith.config.inline import InlineFormat
from tunesmith.data.formats.answers import need_answer, said, turn_text
from tunesmith.data.formats.fields import (
    need_flag,
    need_list,
    need_object,
    need_text,
    optional_text,
)
from tunesmith.data.formats.inline import fill
from tunesmith.data.formats.markup import CHATML, LLAMA3, Markup, Turn, answered, asked
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.formats.pairs import inline_prompt
from tunesmith.data.records import Judged, RowError

_TURN: Final = 'want {"role": "user", "content": "..."}'

Texts = tuple[tuple[Turn, ...], str]
"""The turns before the answer, and the answer."""


@dataclass(frozen=True, slots=True)
class Judgements:
    """A format of judged answers in a markup; ``texts`` reads its columns."""

    markup: Markup
    texts: Callable[[Mapping[str, Any]], Texts]

    def __call__(self, row: Mapping[str, Any], options: FormatOptions) -> Judged:
        """The answer of a row after its prompt, and the row's ``label``.

        Raises:
            RowError: a column is missing or not as it should be.
        """
        answer = self.markup.answered(*self.texts(row))
        return Judged(answer, need_flag(row, "label"))


def _columns(user: str) -> Callable[[Mapping[str, Any]], Texts]:
    """Reads ``user`` and ``completion``, and ``system`` where the row has one."""

    def texts(row: Mapping[str, Any]) -> Texts:
        turns = asked(optional_text(row, "system"), need_text(row, user, ""))
        return turns, need_answer(row, "completion")

    return texts


def _conversation(row: Mapping[str, Any]) -> Texts:
    """``completion`` holds the whole conversation; its last turn is the answer."""
    turns = []
    for number, value in enumerate(need_list(row, "completion")):
        place = f"completion[{number}]"
        turn = need_object(value, place, _TURN)
        if not isinstance(turn.get("role"), str):
            raise RowError(f"{place}.role", "is missing or no text", _TURN)
        turns.append((str(turn["role"]), turn_text(turn, place)))
    if len(turns) < 2:
        raise RowError("completion", "holds one turn, want a question and an answer", _TURN)
    return tuple(turns[:-1]), said(turns[-1][1], f"completion[{len(turns) - 1}].content")


read_chatml_argilla: Final = Judgements(CHATML, _columns("instruction"))
read_chatml_argilla_chat: Final = Judgements(CHATML, _conversation)
read_chatml_intel: Final = Judgements(CHATML, _columns("question"))
read_chatml_prompt: Final = Judgements(CHATML, _columns("prompt"))
read_llama3_argilla: Final = Judgements(LLAMA3, _columns("instruction"))
read_llama3_argilla_chat: Final = Judgements(LLAMA3, _conversation)
read_llama3_intel: Final = Judgements(LLAMA3, _columns("question"))
read_llama3_prompt: Final = Judgements(LLAMA3, _columns("prompt"))


def read_plain(row: Mapping[str, Any], options: FormatOptions) -> Judged:
    """``prompt``, ``completion`` and ``label`` as they stand.

    Raises:
        RowError: a column is missing, empty or not what it should be.
    """
    prompt, answer = need_text(row, "prompt", ""), need_answer(row, "completion")
    return Judged(answered(prompt, answer), need_flag(row, "label"))


def read_inline_judged(row: Mapping[str, Any], options: FormatOptions) -> Judged:
    """The fields that the mapping names, set as its formats say.

    Raises:
        RowError: a field is missing, empty or not what it should be.
        ConfigError: a format names something that it is not given.
    """
    inline = options.inline or InlineFormat()
    prompt = inline_prompt(row, inline)
    answer = need_answer(row, inline.field_completion or "completion", "type.field_completion")
    wording = inline.completion_format or "{completion}"
    text = fill(wording, "completion_format", {"completion": answer})
    label = need_flag(row, inline.field_label or "label", "type.field_label")
    return Judged(answered(prompt, text), label)
