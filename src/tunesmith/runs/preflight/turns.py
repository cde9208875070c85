"""What trains of a conversation is what the model will have to say: seen from the serving side.

The masks follow the origin of each character. Here the same question is asked in another way, of
the saved tokenizer and template alone: the prompt for turn k is what a server renders of the turns
before it, and what trains of turn k begins where that prompt ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.data.records import Conversation, Message
from tunesmith.data.samples import TokenSample
from tunesmith.errors import ProbeError
from tunesmith.runs.preflight.probe import Subject
from tunesmith.runs.preflight.served import Served, serving
from tunesmith.runs.preflight.source_rows import SourceRow, source_rows

ROWS = 8
"""Of each data set."""

ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Answer:
    """An assistant turn in a sample: its tokens are [start, end), ``start`` behind its prompt."""

    message: Message
    start: int
    end: int


def probe_turns(subject: Subject) -> str:
    """How many answers train from the end of a server's prompt on, and nothing else does.

    Raises:
        ProbeError: other tokens train, or the template left out what an answer calls a tool with.
    """
    if subject.template is None:
        return "no data set of this run uses a chat template"
    n_answers = n_samples = 0
    with serving(subject) as served:
        for row in source_rows(subject, ROWS):
            if row.settings.template != subject.template or not _is_usual(row):
                continue
            record = row.record
            assert isinstance(record, Conversation)
            for sample in row.samples():
                answers = served_answers(served, sample, record)
                if answers is None:
                    continue
                _require_calls(subject, sample, answers)
                _compare(subject, row, sample, answers)
                n_answers += len(answers)
                n_samples += 1
    if n_answers == 0:
        return "not compared: rows have wishes of their own, or prompts are no beginnings of them"
    return f"{n_answers} answers in {n_samples} samples train from a server's prompt on"


def _is_usual(row: SourceRow) -> bool:
    """Whether the answers train, and nothing but them: no wish of the data or config says more."""
    record = row.record
    if not isinstance(record, Conversation) or row.settings.roles_to_train != (ASSISTANT,):
        return False
    if row.settings.turns_to_train != "all" or row.settings.train_on_eos == "all":
        return False
    return all(m.train is None and not m.spans and m.weight == 1.0 for m in record.messages)


def served_answers(
    served: Served, sample: TokenSample, record: Conversation
) -> list[Answer] | None:
    """The assistant turns of a sample; None where a server's prompts are no beginnings of it."""
    ids = sample.input_ids.tolist()
    count = served.n_turns(record, ids)
    if count is None:
        return None
    answers = []
    for number in range(count):
        if record.messages[number].role != ASSISTANT:
            continue
        prompt = served.prompt(record, number) if number else None
        end = served.turns(record, number + 1)
        if prompt is None or end is None:
            return None
        if ids[: len(prompt)] != prompt or ids[: len(end)] != end:
            return None
        answers.append(Answer(record.messages[number], len(prompt), len(end)))
    return answers


def _compare(
    subject: Subject, row: SourceRow, sample: TokenSample, answers: Sequence[Answer]
) -> None:
    """Raise where a token trains outside of the answers, or an answer not from its start on."""
    ids = sample.input_ids.tolist()
    inside = {at for answer in answers for at in range(answer.start, answer.end)}
    trained = {at for start, end, _ in sample.runs for at in range(start, end)}
    wrong = sorted(trained - inside)
    if wrong:
        text = subject.tokenizer.decode(ids[wrong[0] : wrong[0] + 8])
        raise _error(row, f"token {wrong[0]} trains ({text!r}), which no answer of the row says")
    # The answers of earlier turns may train in another sample of the row, or nowhere.
    for answer in answers:
        span = range(answer.start, answer.end)
        first = next((at for at in span if at in trained), None)
        if first is None or first == answer.start:
            continue
        text = subject.tokenizer.decode(ids[answer.start : first][:16])
        raise _error(row, f"{text!r}, with which an answer begins, does not train")


def _error(row: SourceRow, what: str) -> ProbeError:
    return ProbeError(
        f"the wrong tokens train in {row.source}: {what}",
        hint="look at the row with `tunesmith preprocess CONFIG --show 3 --reasons`; another "
        "chat_template, or roles_to_train, may be what you want",
        where=str(row.source),
    )


def _require_calls(subject: Subject, sample: TokenSample, answers: Sequence[Answer]) -> None:
    """Raise where the template left out a tool's name or an argument that an answer gives."""
    for answer in answers:
        text = subject.tokenizer.decode(sample.input_ids[answer.start : answer.end].tolist())
        for path, leaf in _leaves(answer.message.fields.get("tool_calls")):
            if not any(written in text for written in _spellings(leaf)):
                raise ProbeError(
                    f"{sample.source}: the template does not print {path} ({leaf[:40]!r}), which "
                    "the answer gives to its tool",
                    hint="use a chat_template that prints tool calls whole",
                    where=sample.source,
                )


def _spellings(text: str) -> tuple[str, ...]:
    """A text as it is, and as JSON and Python write it."""
    ascii_, whole = json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]
    return (text, ascii_, whole, repr(text)[1:-1], whole.replace("'", "\\u0027"))


def _leaves(calls: Any) -> Iterator[tuple[str, str]]:
    """(place, text) of each call's name and the words in its arguments."""
    for number, call in enumerate(calls or ()):
        inner = call.get("function", call) if isinstance(call, Mapping) else {}
        yield f"tool_calls[{number}].name", str(inner.get("name") or "")
        yield from _words(f"tool_calls[{number}].arguments", inner.get("arguments"))


def _words(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _words(f"{path}.{name}", item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _words(path, item)
