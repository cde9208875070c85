"""Pairs of answers for DPO and its relatives, as texts: plain, or in ChatML, Llama 3 or Zephyr."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tunesmith.config.inline import InlineFormat
from tunesmith.data.formats.answers import (
    first_of,
    need_answer,
    need_exchange,
    need_rank,
    same_prompt,
    turn_text,
)
from tunesmith.data.formats.fields import need_list, need_object, need_text, optional_text
from tunesmith.data.formats.inline import fill
from tunesmith.data.formats.markup import CHATML, LLAMA3, Markup, Turn, asked, pair
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.records import Preference, RowError

_USERS: Final = ("prompt", "input", "question", "instruction")
_RANKED: Final = 'want [{"answer": "...", "rank": 1}, ...]'

Texts = tuple[tuple[Turn, ...], str, str]
"""The turns before the answer, the chosen and the rejected answer."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """A format of pairs in a markup; ``texts`` reads its columns."""

    markup: Markup
    texts: Callable[[Mapping[str, Any]], Texts]

    def __call__(self, row: Mapping[str, Any], options: FormatOptions) -> Preference:
        """The two answers of a row, each after the same prompt.

        Raises:
            RowError: a column is missing or not as it should be.
        """
        return self.markup.pair(*self.texts(row))


def _columns(user: str) -> Callable[[Mapping[str, Any]], Texts]:
    """Reads ``user``, ``chosen`` and ``rejected``, and ``system`` where the row has one."""

    def texts(row: Mapping[str, Any]) -> Texts:
        turns = asked(optional_text(row, "system"), need_text(row, user, ""))
        return turns, need_answer(row, "chosen"), need_answer(row, "rejected")

    return texts


def _any_columns(row: Mapping[str, Any]) -> Texts:
    turns = asked(optional_text(row, "system"), need_text(row, first_of(row, _USERS), ""))
    chosen = first_of(row, ("chosen", "chosen_response"))
    rejected = first_of(row, ("rejected", "rejected_response"))
    return turns, need_answer(row, chosen), need_answer(row, rejected)


def _exchanges(row: Mapping[str, Any]) -> Texts:
    """``chosen`` and ``rejected`` hold the question and the answer as turns."""
    question, chosen = need_exchange(row, "chosen")
    _, rejected = need_exchange(row, "rejected")
    same_prompt(row, "chosen", "rejected")
    return asked("", question), chosen, rejected


def _binarized(row: Mapping[str, Any]) -> Texts:
    """The question stands in ``prompt``, and again in both conversations."""
    turns = asked(optional_text(row, "system"), need_text(row, "prompt", ""))
    return turns, need_exchange(row, "chosen")[1], need_exchange(row, "rejected")[1]


read_chatml: Final = Pairs(CHATML, _any_columns)
read_chatml_argilla_chat: Final = Pairs(CHATML, _exchanges)
read_chatml_icr: Final = Pairs(CHATML, _columns("input"))
read_chatml_intel: Final = Pairs(CHATML, _columns("question"))
read_chatml_prompt_pairs: Final = Pairs(CHATML, _columns("prompt"))
read_chatml_ultra: Final = Pairs(CHATML, _binarized)
read_llama3: Final = Pairs(LLAMA3, _any_columns)
read_llama3_argilla_chat: Final = Pairs(LLAMA3, _exchanges)
read_llama3_icr: Final = Pairs(LLAMA3, _columns("input"))
read_llama3_intel: Final = Pairs(LLAMA3, _columns("question"))
read_llama3_prompt_pairs: Final = Pairs(LLAMA3, _columns("prompt"))
read_llama3_ultra: Final = Pairs(LLAMA3, _binarized)


def read_plain(row: Mapping[str, Any], options: FormatOptions) -> Preference:
    """``prompt``, ``chosen`` and ``rejected`` as they stand.

    Raises:
        RowError: a column is missing, empty or no text.
    """
    prompt = need_text(row, "prompt", "")
    return pair(prompt, need_answer(row, "chosen"), need_answer(row, "rejected"))


def read_nectar(row: Mapping[str, Any], options: FormatOptions) -> Preference:
    """Ranked answers in Zephyr's markup: the best one against the second best.

    Raises:
        RowError: fewer than two answers, or one without a text or rank.
    """
    prompt = f"<|system|>\n</s>\n<|user|>\n{need_text(row, 'prompt', '')}</s>\n<|assistant|>\n"
    ranked = []
    for number, value in enumerate(need_list(row, "answers")):
        place = f"answers[{number}]"
        answer = need_object(value, place, _RANKED)
        ranked.append((need_rank(answer, place), turn_text(answer, place, "answer")))
    if len(ranked) < 2:
        raise RowError("answers", "holds one answer, and none to compare it with", _RANKED)
    best, second = sorted(ranked, key=lambda pair: pair[0])[:2]
    if best[0] == second[0]:
        raise RowError("answers", "the two best answers have the same rank", "remove the row")
    return pair(prompt, best[1], second[1])


def read_inline_pair(row: Mapping[str, Any], options: FormatOptions) -> Preference:
    """The fields that the mapping names, set as its formats say.

    Raises:
        RowError: a field is missing, empty or no text.
        ConfigError: a format names something that it is not given.
    """
    inline = options.inline or InlineFormat()
    prompt = inline_prompt(row, inline)
    chosen = need_answer(row, inline.field_chosen or "chosen", "type.field_chosen")
    rejected = need_answer(row, inline.field_rejected or "rejected", "type.field_rejected")
    return pair(
        prompt,
        fill(inline.chosen_format or "{chosen}", "chosen_format", {"chosen": chosen}),
        fill(inline.rejected_format or "{rejected}", "rejected_format", {"rejected": rejected}),
    )


def inline_prompt(row: Mapping[str, Any], inline: InlineFormat) -> str:
    """The prompt as ``prompt_format`` sets it; a row without a system text leaves that empty.

    Raises:
        RowError: a field is missing or no text.
        ConfigError: the format names something that it is not given.
    """
    values = {"prompt": need_text(row, inline.field_prompt or "prompt", "type.field_prompt")}
    wording = inline.prompt_format or "{prompt}"
    if "{system}" in wording:
        values["system"] = optional_text(row, inline.field_system or "system")
    return fill(wording, "prompt_format", values)
