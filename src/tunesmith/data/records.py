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
    """A piece of text that trains or does not.

    It is tokenized by itself, or with ``glued`` as one text with the piece before it: then a token
    that reaches over the border trains only if both pieces do. ``eos`` is how many end tokens close
    the piece, one that its text ends with included.
    """

    text: str
    train: bool
    glued: bool = False
    eos: int = 0


@dataclass(frozen=True, slots=True)
class Segments:
    """Pieces of text and what of them trains (``alpaca``, ``input_output``, inline mappings).

    ``special_tokens`` says whether bos opens the first piece and eos closes the last one;
    ``closed=False`` leaves the eos away. ``has_markup``: the format itself wrote texts of special
    tokens into the pieces.
    """

    pieces: tuple[Segment, ...]
    special_tokens: bool = True
    closed: bool = True
    has_markup: bool = False


@dataclass(frozen=True, slots=True)
class Tokens:
    """A row that was tokenized elsewhere: ids, and whether each trains. Nothing is added."""

    ids: tuple[int, ...]
    train: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Random ids that all train (``_synthetic``): ``length`` of them in [``low``, ``high``).

    ``length=None`` stands for ``sequence_len``, ``high=None`` for the size of the tokenizer's
    vocabulary. Equal ``seed`` and ``number`` give equal ids.
    """

    length: int | None
    low: int
    high: int | None
    seed: int
    number: int


@dataclass(frozen=True, slots=True)
class FieldSpan:
    """Half-open characters of a message's text field, and what they weigh in the loss."""

    field: str
    start: int
    end: int
    weight: float


@dataclass(frozen=True, slots=True)
class Message:
    """One turn, in the keys that a chat template reads.

    ``fields`` holds what the template sees: ``role``, ``content`` and any other key of the turn.
    ``train`` is the row's own wish (``message_field_training``); None leaves it to the spans and
    then to the role. Where there are ``spans`` (in order, disjoint in each field), nothing else of
    the turn's fields trains. ``weight`` is what the turn weighs in the loss.
    """

    fields: Mapping[str, Any]
    train: bool | None = None
    spans: tuple[FieldSpan, ...] = ()
    weight: float = 1.0

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


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt. In each branch the answer alone trains."""

    chosen: Segments | Conversation
    rejected: Segments | Conversation


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer and whether it is wanted. The answer alone trains."""

    answer: Segments | Conversation
    is_good: bool


@dataclass(frozen=True, slots=True)
class Steps:
    """A solution in steps, each right or wrong, and the text that ends every step.

    ``last_only`` asks for the label of the last step alone; ``longest`` is the most tokens that are
    kept of the steps (None: all).
    """

    prompt: str
    steps: tuple[str, ...]
    labels: tuple[bool, ...]
    separator: str = "\n"
    last_only: bool = False
    longest: int | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked; ``extras`` are the row's other columns, as reward functions get them.

    ``asked`` is plain text, or turns of which none is the answer.
    """

    asked: str | Conversation
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts that one row gives: one, or one for each turn of the assistant."""

    items: tuple[Prompt, ...]


TokenRecord = Text | Segments | Tokens | Drawn | Conversation
"""Records that become token ids and weights: what supervised objectives read."""

Record = TokenRecord | Preference | Judged | Steps | Prompts


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
