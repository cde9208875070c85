"""A data set's chat template at work: compiled, its turns understood, its errors named."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jinja2

from tunesmith.data.instrument import CompiledTemplate
from tunesmith.data.origin import Tracked, plain
from tunesmith.data.records import Conversation, FieldSpan, RowError
from tunesmith.data.shape import TurnShape, learn_shape
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
            raise DataError(
                f"the chat template {self._name!r} cannot be used for training: "
                f"{first_line(error)}",
                hint="use another `chat_template`, or give this one a generation prompt",
                where="chat_template",
            ) from error

    def renderer(self, record: Conversation) -> Callable[[int], Tracked]:
        """A function that renders the first n messages; errors of the template are row errors."""
        messages = [message.fields for message in record.messages]
        spans = [message.spans for message in record.messages]

        def render(count: int) -> Tracked:
            return self._checked(messages[:count], spans, record)

        return lru_cache(maxsize=None)(render)

    def ask(self, record: Conversation) -> str:
        """The messages and the opening of an answer; raises ``RowError``."""
        messages = [message.fields for message in record.messages]
        try:
            text = self.compiled.render(messages, record.tools, record.variables, prompt=True)
        except (MemoryError, RecursionError):
            raise
        except Exception as error:
            raise _refused(error) from error
        return plain(text)

    def _checked(
        self,
        messages: Sequence[Mapping[str, Any]],
        spans: Sequence[Sequence[FieldSpan]],
        record: Conversation,
    ) -> Tracked:
        """The rendering with origins, its text equal to the plain rendering."""
        try:
            text = self.compiled.render(messages, record.tools, record.variables, spans=spans)
            reference = self.compiled.render_plain(messages, record.tools, record.variables)
        except (MemoryError, RecursionError):
            raise
        except Exception as error:
            raise _refused(error) from error
        if plain(text) != reference:
            raise RowError(
                "messages",
                "following the origins of this row's text changed the text: a bug of ours",
                "report it with the template; another template avoids it",
            )
        return text


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
