"""What a row means, before any tokenizer: the output of every format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Source:
    """Where a row came from: the data set's number in the config, its file and its row.

    ``row`` counts from 1 and is the line number for json lines.
    """

    dataset: int
    file: str
    row: int

    def __str__(self) -> str:
        return f"{self.file}:{self.row}"


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text that trains whole (``completion``)."""

    text: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text that is tokenized by itself and trains or does not."""

    text: str
    train: bool


@dataclass(frozen=True, slots=True)
class Segments:
    """Pieces tokenized one by one and joined (``alpaca``, ``input_output``, inline mappings).

    ``special_tokens`` says whether bos opens the first piece and eos closes the last one.
    """

    pieces: tuple[Segment, ...]
    special_tokens: bool = True


@dataclass(frozen=True, slots=True)
class Message:
    """One turn, in the keys that a chat template reads.

    ``fields`` holds what the template sees: ``role``, ``content`` and any other key of the turn.
    ``train`` is the row's own wish (``message_field_training``); None leaves it to the role.
    """

    fields: Mapping[str, Any]
    train: bool | None = None

    @property
    def role(self) -> str:
        """The role, after the data set's role mapping."""
        return str(self.fields["role"])


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns for a chat template, with tools and extra template variables."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)


Record = Text | Segments | Conversation


class RowError(Exception):
    """One row cannot be used: ``field`` of it, what is wrong, and what to change.

    Raised by formats and renderers; whoever reads the row knows where it is. It crosses process
    borders, so that its arguments are plain strings.
    """

    def __init__(self, field: str, message: str, fix: str) -> None:
        super().__init__(field, message, fix)
        self.field = field
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"`{self.field}`: {self.message}" if self.field else self.message


@dataclass(frozen=True, slots=True)
class Lint:
    """Something in a row that may be meant but often is not; it is counted, not refused.

    ``code`` groups equal findings (``empty-answer``), ``message`` says this one, ``source`` is
    ``file:row`` ("" until somebody who knows it fills it in).
    """

    code: str
    message: str
    source: str = ""
