"""What looks odd in a record but may be meant: counted and shown, never refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

from tunesmith.data.formats.text_lint import lint_answer, lint_damage, lint_loop
from tunesmith.data.records import (
    Conversation,
    Judged,
    Lint,
    Message,
    Preference,
    Prompts,
    Record,
    Segments,
    Steps,
    Text,
)

_SPECIAL = re.compile(r"<\|\w+\|>|</?s>|<(?:bos|eos|pad|start_of_turn|end_of_turn)>|\[/?INST\]")
"""Markup of well-known templates. The renderer cannot tell it from the template's own."""

_LONGEST_END = 40
"""Characters at the end of a text in which the markup of an end is looked for."""


def lint_record(record: Record) -> Iterator[Lint]:
    """The findings in a record, whichever format made it; turns are counted from 1.

    Of two answers the rejected one may be as odd as it likes, and so may an unwanted one.
    """
    if isinstance(record, Preference):
        if record.chosen == record.rejected:
            yield Lint("identical-answers", "both answers are the same: nothing to prefer")
        yield from lint_record(record.chosen)
    elif isinstance(record, Judged):
        yield from _lint_form(record.answer)
        if record.is_good:
            yield from _lint_texts(record.answer)
    else:
        yield from _lint_form(record)
        yield from _lint_texts(record)


def _lint_form(record: Record) -> Iterator[Lint]:
    """What is odd about the parts of a record, whatever they say."""
    if isinstance(record, Text):
        yield from _lint_markup([("the text", record.text)])
        if not record.text.strip():
            yield Lint("empty-text", "the text is empty: nothing to learn")
    elif isinstance(record, Segments):
        if record.special_tokens and not record.has_markup:
            yield from _lint_markup([("the text", piece.text) for piece in record.pieces])
        if not any(piece.train and piece.text.strip() for piece in record.pieces):
            yield Lint("empty-answer", "the trained text is empty: nothing to learn")
    elif isinstance(record, Steps):
        yield from _lint_steps(record)
    elif isinstance(record, Prompts):
        yield from _lint_prompts(record)
    elif isinstance(record, Conversation):
        turns = enumerate(record.messages, 1)
        texts = [(f"turn {number}", str(turn.fields.get("content", ""))) for number, turn in turns]
        yield from _lint_markup(texts)
        yield from _lint_order(record.messages)
        yield from _lint_wishes(record.messages)
        yield from _lint_answers(record.messages)
        yield from _lint_tools(record)


def _lint_texts(record: Record) -> Iterator[Lint]:
    """What is odd about the words of a record: each kind of finding once."""
    told: set[str] = set()
    for lint in _text_findings(record):
        if lint.code not in told:
            told.add(lint.code)
            yield lint


def _text_findings(record: Record) -> Iterator[Lint]:
    if isinstance(record, Text):
        yield from lint_damage("the text", record.text)
        yield from lint_loop("the text", record.text)
    elif isinstance(record, Segments):
        for trains, pieces in groupby(record.pieces, lambda piece: piece.train):
            text = "".join(piece.text for piece in pieces)
            yield from lint_damage("the trained text" if trains else "the prompt", text)
            if trains:
                yield from lint_answer("the trained text", _without_end(text))
    elif isinstance(record, Conversation):
        for number, message in enumerate(record.messages, 1):
            content = message.fields.get("content")
            if not isinstance(content, str):
                continue
            yield from lint_damage(f"turn {number}", content)
            if message.role == "assistant" and not message.fields.get("tool_calls"):
                yield from lint_answer(f"turn {number}", content)
    elif isinstance(record, Steps):
        for number, step in enumerate(record.steps, 1):
            yield from lint_damage(f"step {number}", step)
    elif isinstance(record, Prompts):
        for item in record.items:
            if isinstance(item.asked, str):
                yield from lint_damage("the prompt", item.asked)


def _without_end(text: str) -> str:
    """The text without the markup of an end that the row itself writes."""
    found = _SPECIAL.search(text, max(0, len(text) - _LONGEST_END))
    return text[: found.start()] if found else text


def _lint_steps(record: Steps) -> Iterator[Lint]:
    for number, step in enumerate(record.steps, 1):
        if not step.strip():
            yield Lint("empty-step", f"step {number} is empty: nothing to judge")
            return


def _lint_prompts(record: Prompts) -> Iterator[Lint]:
    if any(isinstance(item.asked, str) and not item.asked.strip() for item in record.items):
        yield Lint("empty-prompt", "the prompt is empty: nothing to answer")


def _lint_markup(texts: Sequence[tuple[str, str]]) -> Iterator[Lint]:
    """The first text that holds what a tokenizer may read as a special token."""
    for place, text in texts:
        if found := _SPECIAL.search(text):
            message = f"{place} holds {found.group()!r}, which may be read as a special token"
            yield Lint("special-token-text", message)
            return


def _lint_order(messages: Sequence[Message]) -> Iterator[Lint]:
    roles = [message.role for message in messages]
    systems = [number for number, role in enumerate(roles, 1) if role == "system"]
    if len(systems) > 1:
        yield Lint("several-system-turns", f"turns {systems[0]} and {systems[1]} are system turns")
    elif systems and systems[0] > 1:
        yield Lint("late-system-turn", f"turn {systems[0]} is a system turn, not the first")
    talk = [(number, role) for number, role in enumerate(roles, 1) if role != "system"]
    if talk and talk[0][1] == "assistant":
        yield Lint("assistant-first", "the assistant speaks first")
    if talk and talk[0][1] == "tool":
        yield Lint("tool-first", "a tool answers before anything was asked")
    for (_, before), (number, role) in pairwise(talk):
        if role == before == "user":
            yield Lint("two-users", f"turn {number} is the user's, as is the one before")
            break
    if "assistant" not in roles:
        yield Lint("no-answer", "no assistant turn: nothing to learn, unless other roles train")
    elif roles[-1] == "user":
        yield Lint("ends-with-user", "the last turn is the user's and carries no loss")


def _lint_answers(messages: Sequence[Message]) -> Iterator[Lint]:
    """An assistant turn without a text, calls, or any other field that a template could show."""
    for number, message in enumerate(messages, 1):
        shown = (part for name, part in message.fields.items() if name != "role")
        said = any(part.strip() if isinstance(part, str) else part for part in shown)
        if message.role == "assistant" and not said:
            yield Lint("empty-answer", f"turn {number} is empty: it has no text to learn")


def _lint_wishes(messages: Sequence[Message]) -> Iterator[Lint]:
    """The first answer whose own wish not to train, or to weigh something else, nobody read.

    What a format reads as a wish is no field any more.
    """
    for number, message in enumerate(messages, 1):
        if message.role != "assistant":
            continue
        train, weight = message.fields.get("train"), message.fields.get("weight")
        is_weighed = isinstance(weight, int | float) and weight != 1
        if train is False or is_weighed:
            key = "message_field_weight" if is_weighed else "message_field_training"
            name, value = ("weight", weight) if is_weighed else ("train", "false")
            told = f"turn {number} says `{name}: {value}`, which nothing reads: set `{key}: {name}`"
            yield Lint("unread-wish", told)
            return


def _lint_tools(record: Conversation) -> Iterator[Lint]:
    declared = {name for tool in record.tools if (name := _name(tool))}
    called: set[str] = set()
    n_calls = 0
    messages = record.messages
    for number, message in enumerate(messages, 1):
        for call in message.fields.get("tool_calls") or ():
            n_calls += 1
            called.add(str(call.get("id", "")))
            name = _name(call)
            if declared and name and name not in declared:
                yield Lint("undeclared-tool", f"turn {number} calls `{name}`, not in the tools")
        if message.role == "tool":
            answered = message.fields.get("tool_call_id")
            # A call may also stand in the text of the assistant's turn before.
            if n_calls == 0 and (number < 2 or messages[number - 2].role != "assistant"):
                yield Lint("answer-without-call", f"turn {number} answers a call nobody made")
            elif answered is not None and str(answered) not in called:
                yield Lint("unknown-call", f"turn {number} answers the unknown call {answered!r}")


def _name(tool: Mapping[str, Any]) -> str:
    inner = tool.get("function")
    return str((inner if isinstance(inner, Mapping) else tool).get("name", ""))
