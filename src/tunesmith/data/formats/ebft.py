"""EBFT: turns that a model answers anew, each with the text that it should come near to."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tunesmith.data.formats.answers import first_of
from tunesmith.data.formats.chat import read_chat
from tunesmith.data.formats.fields import need_text
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.records import (
    Conversation,
    Message,
    Prompt,
    Prompts,
    RowError,
    Segment,
    Segments,
    Text,
)

_THINKING: Final = re.compile(r"<think>.*?</think>\s*", re.DOTALL)
_FIELDS: Final = ("messages", "conversations")


def read_code(row: Mapping[str, Any], options: FormatOptions) -> Prompts:
    """``input`` as the user's turn, ``output`` as the truth to come near to.

    Raises:
        RowError: a column is missing or no text.
    """
    turn = Message({"role": "user", "content": need_text(row, "input", "")})
    truth = {"ground_truth": need_text(row, "output", "")}
    return Prompts((Prompt(Conversation((turn,)), truth),))


@dataclass(frozen=True, slots=True)
class TurnsAsPrompts:
    """A format that asks for turns of a conversation.

    ``which``: the assistant's ``first`` turn (those after it stand in ``remaining_turns``), the
    ``last`` or ``all`` of them. ``truth`` makes the text of ``ground_truth`` from the turn.
    """

    which: str
    truth: Callable[[Message], str]
    splits_thinking: bool = False

    def __call__(self, row: Mapping[str, Any], options: FormatOptions) -> Prompts:
        """A prompt for each turn that is asked for.

        Raises:
            RowError: a turn is not as it should be, or none is the assistant's after a question.
        """
        split = options.split_thinking or self.splits_thinking
        whole = _conversation(row, dataclasses.replace(options, split_thinking=split))
        messages = whole.messages
        answers = _answers(messages, first_of(row, _FIELDS))
        chosen = {"first": answers[:1], "last": answers[-1:], "all": answers}[self.which]
        return Prompts(tuple(self._prompt(whole, messages, at) for at in chosen))

    def _prompt(self, whole: Conversation, messages: Sequence[Message], at: int) -> Prompt:
        extras: dict[str, Any] = {"ground_truth": self.truth(messages[at])}
        if self.which == "first":
            extras["remaining_turns"] = [dict(message.fields) for message in messages[at + 1 :]]
        asked = dataclasses.replace(whole, messages=tuple(messages[:at]))
        return Prompt(asked, extras)


def _conversation(row: Mapping[str, Any], options: FormatOptions) -> Conversation:
    name = options.field_messages
    if name == "messages" and name not in row:
        name = first_of(row, _FIELDS)
        name = name if name in row else "messages"
    return read_chat(row, dataclasses.replace(options, field_messages=name))


def _answers(messages: Sequence[Message], name: str) -> list[int]:
    """The numbers of the assistant's turns that something stands before."""
    found = [at for at, message in enumerate(messages) if message.role == "assistant" and at > 0]
    if not found:
        raise RowError(name, "holds no answer of the assistant to learn from", "remove the row")
    return found


def _content(message: Message) -> str:
    return str(message.fields.get("content", ""))


def _answer_alone(message: Message) -> str:
    return _THINKING.sub("", _content(message)).strip()


def _with_thinking(message: Message) -> str:
    thought = message.fields.get("reasoning_content")
    answer = _content(message)
    return f"<think>\n{thought}\n</think>\n\n{answer}" if thought else answer


read_first_turn: Final = TurnsAsPrompts("first", _content)
read_last_turn: Final = TurnsAsPrompts("last", _content)
read_turns: Final = TurnsAsPrompts("all", _content)
read_split: Final = TurnsAsPrompts("last", _with_thinking, splits_thinking=True)
read_answer_only: Final = TurnsAsPrompts("last", _answer_alone)


def read_strided_text(row: Mapping[str, Any], options: FormatOptions) -> Text:
    """The text of ``question``, else of ``text``.

    Raises:
        RowError: both are missing, or it is no text.
    """
    return Text(need_text(row, first_of(row, ("question", "text")), ""))


def read_strided_pair(row: Mapping[str, Any], options: FormatOptions) -> Segments:
    """A prompt and its completion, which trains, under any of their usual names.

    Raises:
        RowError: one of them is missing or no text.
    """
    prompt = need_text(row, first_of(row, ("input", "prompt", "question")), "")
    answer = need_text(row, first_of(row, ("output", "completion", "answer")), "")
    pieces = (Segment(prompt, options.train_on_inputs), Segment(answer, train=True))
    return Segments(pieces, closed=False)


def read_strided_chat(row: Mapping[str, Any], options: FormatOptions) -> Conversation:
    """The conversation; all of the assistant's turns train.

    Raises:
        RowError: a turn is not as it should be.
    """
    return _conversation(row, options)


def read_strided_last_turn(row: Mapping[str, Any], options: FormatOptions) -> Conversation:
    """The conversation; the assistant's last turn alone trains.

    Raises:
        RowError: a turn is not as it should be, or none is the assistant's.
    """
    whole = _conversation(row, options)
    last = _answers(whole.messages, first_of(row, _FIELDS))[-1]
    messages = tuple(
        dataclasses.replace(message, train=at == last) for at, message in enumerate(whole.messages)
    )
    return dataclasses.replace(whole, messages=messages)
