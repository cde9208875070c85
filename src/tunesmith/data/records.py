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
