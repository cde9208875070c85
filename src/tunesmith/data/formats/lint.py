"""What looks odd in a record but may be meant: counted and shown, never refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from tunesmith.data.records import (
    Conversation,
    Judged,
    Lint,
    Message,
    Preference,
    Record,
    Segments,
    Text,
)

_SPECIAL = re.compile(r"<\|\w+\|>|</?s>|<(?:bos|eos|pad|start_of_turn|end_of_turn)>|\[/?INST\]")
"""Markup of well-known templates. The renderer cannot tell it from the template's own."""


def lint_record(record: Record) -> Iterator[Lint]:
    """The findings in a record, whichever format made it; turns are counted from 1."""
    if isinstance(record, Preference):
        yield from _lint_pair(record)
    elif isinstance(record, Judged):
        yield from lint_record(record.answer)
    elif isinstance(record, Text):
        yield from _lint_markup([("the text", record.text)])
        if not record.text.strip():
            yield Lint("empty-text", "the text is empty: nothing to learn")
    elif isinstance(record, Segments):
        if record.special_tokens and not record.has_markup:
            yield from _lint_markup([("the text", piece.text) for piece in record.pieces])
        if not any(piece.train and piece.text.strip() for piece in record.pieces):
            yield Lint("empty-answer", "the trained text is empty: nothing to learn")
    elif isinstance(record, Conversation):
        turns = enumerate(record.messages, 1)
        texts = [(f"turn {number}", str(turn.fields.get("content", ""))) for number, turn in turns]
        yield from _lint_markup(texts)
        yield from _lint_order(record.messages)
        yield from _lint_answers(record.messages)
        yield from _lint_tools(record)


def _lint_pair(record: Preference) -> Iterator[Lint]:
    if record.chosen == record.rejected:
        yield Lint("identical-answers", "both answers are the same: nothing to prefer")
    yield from lint_record(record.chosen)


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
            yield Lint("empty-answer", f"turn {number} is empty: nothing to learn but its end")


def _lint_tools(record: Conversation) -> Iterator[Lint]:
    declared = {name for tool in record.tools if (name := _name(tool))}
    called: set[str] = set()
    n_calls = 0
    for number, message in enumerate(record.messages, 1):
        for call in message.fields.get("tool_calls") or ():
            n_calls += 1
            called.add(str(call.get("id", "")))
            name = _name(call)
            if declared and name and name not in declared:
                yield Lint("undeclared-tool", f"turn {number} calls `{name}`, not in the tools")
        if message.role == "tool":
            answered = message.fields.get("tool_call_id")
            if n_calls == 0:
                yield Lint("answer-without-call", f"turn {number} answers a call nobody made")
            elif answered is not None and str(answered) not in called:
                yield Lint("unknown-call", f"turn {number} answers the unknown call {answered!r}")


def _name(tool: Mapping[str, Any]) -> str:
    inner = tool.get("function")
    return str((inner if isinstance(inner, Mapping) else tool).get("name", ""))
