"""A data set's chat template at work: compiled, its turns understood, its errors named."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import jinja2

from tunesmith.data.instrument import CompiledTemplate
from tunesmith.data.origin import Tracked, plain
from tunesmith.data.records import Conversation, RowError
from tunesmith.data.shape import TemplateShapeError, TurnShape, learn_shape
from tunesmith.data.templates import ChatTemplate
from tunesmith.errors import DataError


class Chat:
    """The compiled template of a data set, and the shape of its turns."""

    def __init__(self, template: ChatTemplate, variables: Mapping[str, Any], now: str) -> None:
        self._name = template.name
        try:
            self.compiled = CompiledTemplate(template.text, variables, now)
        except jinja2.TemplateSyntaxError as error:
            raise DataError(
                f"the chat template {self._name!r} does not compile: line {error.lineno}: {error}",
                hint="correct the template",
                where="chat_template",
            ) from error
        self._cached_shape = lru_cache(maxsize=64)(self._learn)

    def shape(self, variables: Mapping[str, Any]) -> TurnShape:
        """The shape of turns under a row's own variables; raises ``DataError`` if there is none."""
        return self._cached_shape(json.dumps(variables, sort_keys=True, default=str))

    def _learn(self, variables: str) -> TurnShape:
        extra = json.loads(variables)

        def render(messages: Sequence[Mapping[str, Any]], *, prompt: bool) -> Tracked:
            return self.compiled.render(messages, (), extra, prompt=prompt)

        try:
            return learn_shape(render)
        except MemoryError:
            raise
        except Exception as error:
            fix = "let it render a question and its answer"
            raise DataError(
                f"the chat template {self._name!r} cannot be used for training: "
                f"{first_line(error)}",
                hint=f"use another `chat_template`, or correct this one: "
                f"{error.fix if isinstance(error, TemplateShapeError) else fix}",
                where="chat_template",
            ) from error

    def beginnings(self, record: Conversation) -> Beginnings:
        """The record's first messages, as many as are asked for."""
        return Beginnings(self.compiled, record)

    def ask(self, record: Conversation) -> str:
        """The messages and the opening of an answer; raises ``RowError``."""
        messages = [message.fields for message in record.messages]
        with _naming_refusals():
            text = self.compiled.render(messages, record.tools, record.variables, prompt=True)
        return plain(text)


class Beginnings:
    """The first n messages of a conversation as the template renders them.

    ``plain`` and ``tracked`` raise ``RowError`` for what the template refuses.
    """

    def __init__(self, compiled: CompiledTemplate, record: Conversation) -> None:
        self._compiled, self._record = compiled, record
        self._messages = [message.fields for message in record.messages]
        self._spans = [message.spans for message in record.messages]
        self._tracked: dict[int, Tracked] = {}
        self.plain = lru_cache(maxsize=2)(self._render_plain)
        """The text alone. Of a long row all texts together are large: the last two are kept."""

    def _render_plain(self, count: int) -> str:
        record = self._record
        with _naming_refusals():
            return self._compiled.render_plain(
                self._messages[:count], record.tools, record.variables
            )

    def tracked(self, count: int) -> Tracked:
        """The text with origins, its characters equal to ``plain``."""
        if count not in self._tracked:
            record = self._record
            with _naming_refusals():
                text = self._compiled.render(
                    self._messages[:count], record.tools, record.variables, spans=self._spans
                )
            if plain(text) != self.plain(count):
                raise RowError(
                    "messages",
                    "following the origins of this row's text changed the text: a bug of ours",
                    "report it with the template; another template avoids it",
                )
            self._tracked[count] = text
        return self._tracked[count]


@contextmanager
def _naming_refusals() -> Iterator[None]:
    """Makes what a template raises an error of the row; running out of room stays what it is."""
    try:
        yield
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        raise _refused(error) from error


def _refused(error: Exception) -> RowError:
    return RowError(
        "messages",
        f"the chat template refuses this row: {first_line(error)}",
        "correct the row, or use a template that takes such rows",
    )


def first_line(error: Exception) -> str:
    """The first line of what an exception says, or its kind where it says nothing."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
