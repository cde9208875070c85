"""Pairs of answers in turns, for any chat template: DPO, ORPO and reward models."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.data.formats.answers import need_answer, said, same_prompt
from tunesmith.data.formats.chat import read_chat
from tunesmith.data.formats.fields import need, need_list, need_text, optional_text
from tunesmith.data.formats.markup import LLAMA3, asked
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.records import Conversation, Preference, RowError

_TURNS = "turns"
Placed = tuple[Any, str]
"""A turn as it stands in the row, and its place there."""


def read_pair(row: Mapping[str, Any], options: FormatOptions) -> Preference:
    """The turns of ``field_messages`` before each of the two answers.

    The messages may be one text, the user's. An answer is a text, a turn, or a list of turns of
    which the last one counts.

    Raises:
        RowError: a column is missing or not as it should be, or an answer is not the assistant's.
    """
    name = options.field_messages
    value = need(row, name, "field_messages")
    if isinstance(value, str):
        value = [_turn("user", value, options)]
    before = [(turn, f"{name}[{at}]") for at, turn in enumerate(need_list({name: value}, name))]
    return _pair(
        before,
        _answer(row, options.field_chosen, "field_chosen", options),
        _answer(row, options.field_rejected, "field_rejected", options),
        options,
        row.get(options.field_tools),
    )


def read_pair_of_conversations(row: Mapping[str, Any], options: FormatOptions) -> Preference:
    """Two whole conversations that differ in their last turn.

    Raises:
        RowError: they do not begin alike, or are not as they should be.
    """
    chosen, rejected = options.field_chosen, options.field_rejected
    same_prompt(row, chosen, rejected)
    turns = need_list(row, chosen)
    before = [(turn, f"{chosen}[{at}]") for at, turn in enumerate(turns[:-1])]
    if not before:
        message = "holds one turn, want a question and its answer"
        raise RowError(chosen, message, "give the row its prompt, or remove it")
    return _pair(
        before,
        (turns[-1], f"{chosen}[{len(turns) - 1}]"),
        (need_list(row, rejected)[-1], f"{rejected}[{len(turns) - 1}]"),
        options,
        row.get(options.field_tools),
    )


def read_orpo(row: Mapping[str, Any], options: FormatOptions) -> Preference:
    """As ``read_pair_of_conversations``, after the row's ``system`` text where it has one.

    Raises:
        RowError: as there.
    """
    system = optional_text(row, "system")
    chosen, rejected = options.field_chosen, options.field_rejected
    if not system:
        return read_pair_of_conversations(row, options)
    opening = _turn("system", system, options)
    whole = {
        **row,
        chosen: [opening, *need_list(row, chosen)],
        rejected: [opening, *need_list(row, rejected)],
    }
    return read_pair_of_conversations(whole, options)


def read_reward(row: Mapping[str, Any], options: FormatOptions) -> Preference:
    """``system`` (may be missing), ``input``, ``chosen`` and ``rejected`` as turns.

    Raises:
        RowError: a column is missing, empty or no text.
    """
    before = [(_turn("user", need_text(row, "input", ""), options), "input")]
    if system := optional_text(row, "system"):
        before.insert(0, (_turn("system", system, options), "system"))
    chosen, rejected = (
        (_turn("assistant", need_answer(row, name), options), name)
        for name in ("chosen", "rejected")
    )
    return _pair(before, chosen, rejected, options, None)


def read_reward_llama3(row: Mapping[str, Any], options: FormatOptions) -> Preference:
    """The columns of ``read_reward`` in Llama 3's markup.

    Raises:
        RowError: a column is missing, empty or no text.
    """
    turns = asked(optional_text(row, "system"), need_text(row, "input", ""))
    return LLAMA3.pair(turns, need_answer(row, "chosen"), need_answer(row, "rejected"))


def conversation(placed: Sequence[Placed], options: FormatOptions, tools: Any) -> Conversation:
    """The turns as a conversation; what is wrong with one is told at its own place.

    Raises:
        RowError: a turn or the tools are not as they should be.
    """
    row = {_TURNS: [turn for turn, _ in placed], options.field_tools: tools}
    try:
        return read_chat(row, dataclasses.replace(options, field_messages=_TURNS))
    except RowError as error:
        raise RowError(_placed(error.field, placed), error.message, error.fix) from error


def _placed(field: str, placed: Sequence[Placed]) -> str:
    """The place in the row of a field such as ``turns[2].content``."""
    number, _, rest = field.removeprefix(f"{_TURNS}[").partition("]")
    if field.startswith(f"{_TURNS}[") and number.isdigit():
        return placed[int(number)][1] + rest
    return placed[0][1] if field == _TURNS else field


def _pair(
    before: Sequence[Placed], chosen: Placed, rejected: Placed, options: FormatOptions, tools: Any
) -> Preference:
    branches = []
    for answer in (chosen, rejected):
        branch = conversation([*before, answer], options, tools)
        last = branch.messages[-1]
        if last.role != "assistant":
            message = f"is a turn of the {last.role}, want the assistant's"
            raise RowError(answer[1], message, "an answer is the assistant's")
        if not last.fields.get("tool_calls"):
            said(str(last.fields.get("content", "")), answer[1])
        branches.append(_last_trains(branch))
    return Preference(*branches)


def _last_trains(whole: Conversation) -> Conversation:
    *before, last = whole.messages
    messages = [dataclasses.replace(message, train=False) for message in before]
    answer = dataclasses.replace(last, train=True)
    return dataclasses.replace(whole, messages=(*messages, answer))


def _turn(role: str, text: str, options: FormatOptions) -> dict[str, str]:
    """A turn in the row's own keys."""
    return {options.properties["role"]: role, options.properties["content"]: text}


def _answer(row: Mapping[str, Any], name: str, setting: str, options: FormatOptions) -> Placed:
    value = need(row, name, setting)
    if isinstance(value, str):
        return _turn("assistant", said(value, name), options), name
    if isinstance(value, Mapping):
        return value, name
    turns = need_list({name: value}, name)
    return turns[-1], f"{name}[{len(turns) - 1}]"
