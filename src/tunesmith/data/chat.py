"""A data set's chat template at work: compiled, its turns understood, its errors named."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import jinja2

from tunesmith.data.instrument import CompiledTemplate
from tunesmith.data.layout import Form, Laid, Layouts, form_of
from tunesmith.data.origin import Tracked, looks, plain, runs_of
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
        self._layouts = Layouts()

    def shape(self, variables: Mapping[str, Any]) -> TurnShape:
        """The shape of turns under a row's own variables; raises ``DataError`` if there is none."""
        named = json.dumps(variables, sort_keys=True, default=str) if variables else "{}"
        return self._cached_shape(named)

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

    def beginnings(self, record: Conversation, *, proves: bool = False) -> Beginnings:
        """The record's first messages, as many as are asked for.

        ``proves``: the template itself is run with origins, whether a layout is known or not, and
        both must agree.
        """
        return Beginnings(self.compiled, record, self._layouts, proves=proves)

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

    def __init__(
        self, compiled: CompiledTemplate, record: Conversation, layouts: Layouts, *, proves: bool
    ) -> None:
        self._compiled, self._record = compiled, record
        self._layouts, self._proves = layouts, proves
        self._messages = [message.fields for message in record.messages]
        self._form = _form(record, self._messages)
        self._tracked: dict[int, Tracked] = {}
        self._laid: dict[int, Laid] = {}
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
            form = None if self._form is None else self._form[:count]
            laid = None if form is None else self._layouts.lay(form, self._messages)
            if laid is not None and plain(laid.text) == self.plain(count):
                self._laid[count] = laid
            known = self._laid.get(count)
            text = self._follow(count, form) if known is None or self._proves else known.text
            if known is not None and runs_of(known.text) != runs_of(text):
                raise bug("the layout of an earlier row gave this row's text other origins")
            self._tracked[count] = text
        return self._tracked[count]

    def laid(self, count: int) -> Laid | None:
        """The same by the layout of earlier rows; None where that is not how it was made."""
        return self._laid.get(count)

    def _follow(self, count: int, form: Form | None) -> Tracked:
        """The template run with origins; its layout is learned."""
        record, messages = self._record, self._messages[:count]
        spans = [message.spans for message in record.messages]
        before = looks.count
        with _naming_refusals():
            text = self._compiled.render(messages, record.tools, record.variables, spans=spans)
        looked = looks.count != before
        if plain(text) != self.plain(count):
            raise bug("following the origins of this row's text changed the text")
        if form is not None and self._layouts.wants(form):
            self._layouts.learn(form, messages, text, looked=looked)
        return text


def _form(record: Conversation, messages: Sequence[Mapping[str, Any]]) -> Form | None:
    """The form of a row; None for one of which more than the messages' texts is printed."""
    if record.tools or record.variables or any(message.spans for message in record.messages):
        return None
    return form_of(messages)


def bug(message: str) -> RowError:
    """The error of a row that we are wrong about."""
    return RowError(
        "messages",
        f"{message}: a bug of ours",
        "report it with the template; another template avoids it",
    )


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
