"""Records to samples: the text of a row in tokens, and which of them train.

Nothing here imports torch or transformers, so that the processes which run templates start fast.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal

import jinja2
import numpy as np

from tunesmith.data.encode import Encoded, Encoder
from tunesmith.data.history import Sample, plan_samples
from tunesmith.data.instrument import CompiledTemplate
from tunesmith.data.masking import (
    ASSISTANT,
    Ends,
    Mask,
    Masker,
    Stops,
    TemplateShapeError,
    TurnShape,
    learn_shape,
)
from tunesmith.data.origin import Tracked, plain
from tunesmith.data.proof import prove_origins, prove_prompt
from tunesmith.data.records import Conversation, Lint, Record, RowError, Segments, Source, Text
from tunesmith.data.samples import TokenSample
from tunesmith.data.templates import ChatTemplate
from tunesmith.errors import DataError

RENDER_VERSION: Final = "1"
"""Part of every cache key: raised when the same row and settings give other tokens."""

History = Literal["whole", "expand", "last"]

_PROVED_ROWS = 64
_PROVED_EVERY = 1000


@dataclass(frozen=True, slots=True)
class RenderSettings:
    """All that decides how the rows of one data set become tokens, as plain data.

    ``tokenizer_path``: a folder with ``tokenizer.json``; ``tokenizer_digest``: the hash of its
    content, which goes into the cache key in the path's place. ``special_tokens``: the texts that
    templates see (``bos_token``, ...). ``variables``: ``chat_template_kwargs``. ``roles``: the data
    set's role mapping, template role -> names. ``history``: what becomes of a row whose template
    changes earlier turns (None: ``expand``). ``now``: the ISO time that ``strftime_now`` tells.
    ``sequence_len``: the length of the pieces that plain text is cut into.
    """

    tokenizer_path: str
    tokenizer_digest: str
    sequence_len: int
    template: ChatTemplate | None = None
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    eos_id: int | None = None
    eos_text: str = ""
    eot_tokens: tuple[str, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    roles_to_train: tuple[str, ...] = (ASSISTANT,)
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    train_on_eos: Ends = "turn"
    train_on_eot: Ends | None = None
    history: History | None = None
    now: str = "2024-07-26T00:00:00"

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the tokens: equal rows and equal digests give equal samples."""
        values = {
            item.name: getattr(self, item.name)
            for item in dataclasses.fields(self)
            if item.name not in ("tokenizer_path", "template", "now")
        }
        values["template"] = self.template.digest if self.template else None
        if self.template and "strftime_now" in self.template.text:
            values["now"] = self.now
        text = json.dumps([RENDER_VERSION, values], sort_keys=True, default=list)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class RenderedRow:
    """What one row became."""

    samples: tuple[TokenSample, ...]
    lints: tuple[Lint, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenView:
    """One token as ``preprocess --show`` prints it.

    ``message`` is the number of the turn that its first character came from, None for text of the
    template, of tools, or of a row without turns; ``field`` is the turn's key, ``template``, or the
    piece. ``reason`` says why it trains or does not.
    """

    text: str
    id: int
    weight: float
    message: int | None
    role: str
    field: str
    reason: str


Row = tuple[Source, Record]


class Renderer:
    """Makes samples of records; built from settings alone, once in each process."""

    def __init__(self, settings: RenderSettings) -> None:
        self._settings = settings
        self._encoder = Encoder(settings.tokenizer_path)
        eos = settings.train_on_eos
        self._stops = Stops(
            settings.eos_text,
            settings.eot_tokens,
            self._encoder.special,
            eos,
            settings.train_on_eot or eos,
        )
        aliases = {name: role for role, names in settings.roles.items() for name in names}
        self._masker = Masker(settings.roles_to_train, self._stops, aliases)
        self._chat = _Chat(settings) if settings.template else None
        self._shape_lints = self._check_end() if self._chat else ()

    def _check_end(self) -> tuple[Lint, ...]:
        """A finding where the text that ends a turn is no single token."""
        end = self._chat_of().shape({}).turn_end
        length = len(self._encoder.encode(end).ids)
        if length <= 1:
            return ()
        message = (
            f"the template ends turns with {end!r}, which is {length} tokens: generation will not "
            "stop there by itself; add it under `tokens` and `eot_tokens`"
        )
        return (Lint("end-of-turn-text", message),)

    def _chat_of(self) -> _Chat:
        if self._chat is None:
            raise DataError(
                "a row of turns needs a chat template, and none was chosen",
                hint="set `chat_template`",
                where="chat_template",
            )
        return self._chat

    def render(self, record: Record, source: Source) -> RenderedRow:
        """The samples of one record, with what looks odd about it; raises ``RowError``."""
        try:
            if isinstance(record, Conversation):
                return self._conversation(record, source)
            views = self._plain_views(record)
        except UnicodeEncodeError as error:
            raise _not_text(error) from error
        return RenderedRow(tuple(self._cut(record, views, source)))

    # --- rows without turns ---------------------------------------------------------------------

    def _plain_views(self, record: Text | Segments) -> list[tuple[int, bool]]:
        """Ids with whether they train, special tokens at both ends included."""
        pieces = _pieces(record)
        encoded = self._encoder.encode_each([text for text, _ in pieces])
        tokens = [
            (token, train) for ids, (_, train) in zip(encoded, pieces, strict=True) for token in ids
        ]
        if isinstance(record, Segments) and not record.special_tokens:
            return tokens
        first = pieces[0][1] if pieces else True
        last = pieces[-1][1] if pieces else True
        opening = [(token, first) for token in self._encoder.opening]
        return opening + tokens + self._closing(tokens, last)

    def _closing(self, tokens: Sequence[tuple[int, bool]], train: bool) -> list[tuple[int, bool]]:  # noqa: FBT001
        """The eos, unless the text ends with it; what else the tokenizer closes with before it."""
        eos = self._settings.eos_id
        closing = [(token, train) for token in self._encoder.closing if token != eos]
        if eos is None or (not closing and tokens and tokens[-1][0] == eos):
            return closing
        return [*closing, (eos, train)]

    def _cut(
        self, record: Text | Segments, tokens: Sequence[tuple[int, bool]], source: Source
    ) -> Iterator[TokenSample]:
        length = self._settings.sequence_len if isinstance(record, Text) else max(len(tokens), 1)
        for start in range(0, len(tokens), length):
            piece = tokens[start : start + length]
            yield _sample([t for t, _ in piece], [train for _, train in piece], source)

    # --- conversations --------------------------------------------------------------------------

    def _conversation(self, record: Conversation, source: Source) -> RenderedRow:
        samples = []
        lints: list[Lint] = list(self._shape_lints)
        for text, mask, more in self._masked(record, source):
            encoded = self._encoder.encode(plain(text))
            trained = train_tokens(encoded, mask.spans, len(text))
            lints += [*more, *mask.lints, *_straddles(text, encoded, mask)]
            samples.append(_sample(encoded.ids, trained, source))
        found = tuple(dataclasses.replace(lint, source=str(source)) for lint in lints)
        return RenderedRow(tuple(samples), found)

    def _masked(
        self, record: Conversation, source: Source | None
    ) -> list[tuple[Tracked, Mask, list[Lint]]]:
        """The texts that a conversation becomes, each with what of it trains."""
        if not record.messages:
            raise RowError("messages", "the conversation is empty", "give it at least one turn")
        chat = self._chat_of()
        render = chat.renderer(record)
        shape = chat.shape(record.variables)
        samples = self._samples(record, render)
        masked = []
        for sample in samples:
            messages = record.messages[: sample.length]
            mask = self._masker.mask(sample.text, messages, shape, sample.part)
            lints = [Lint("history", sample.note)] if sample.note else []
            masked.append((sample.text, mask, lints))
        if source is not None and _is_proved(source):
            prove_origins(record, chat.compiled, seed=source.row)
            masked[0][2].extend(prove_prompt(record, chat.compiled, samples[0], masked[0][1]))
        return masked

    def _samples(self, record: Conversation, render: Callable[[int], Tracked]) -> list[Sample]:
        trained = [self._masker.trains(message) for message in record.messages]
        return plan_samples(record.messages, trained, render, self._settings.history or "expand")

    # --- looking --------------------------------------------------------------------------------

    def explain(self, record: Record) -> list[list[TokenView]]:
        """Every token of each sample of the record, with where it came from and why it trains."""
        if isinstance(record, Conversation):
            return [
                self._explain_turns(record, text, mask)
                for text, mask, _ in self._masked(record, None)
            ]
        views = []
        for sample in self._cut(record, self._plain_views(record), Source(0, "", 0)):
            weights = sample.target_weights()
            views.append(
                [
                    TokenView(
                        self._encoder.text_of(int(token)),
                        int(token),
                        float(weight),
                        None,
                        "",
                        "text" if isinstance(record, Text) else "piece",
                        _plain_reason(number, float(weight)),
                    )
                    for number, (token, weight) in enumerate(
                        zip(sample.input_ids, weights, strict=True)
                    )
                ]
            )
        return views

    def _explain_turns(self, record: Conversation, text: Tracked, mask: Mask) -> list[TokenView]:
        encoded = self._encoder.encode(plain(text))
        trained = train_tokens(encoded, mask.spans, len(text))
        whole = plain(text)
        views = []
        for number, (token, (start, end)) in enumerate(
            zip(encoded.ids, encoded.offsets, strict=True)
        ):
            weight = float(trained[number] and number > 0)
            origin = text[start:end]._runs[0][1] if end > start else None
            inside = origin is not None and origin.message >= 0
            views.append(
                TokenView(
                    whole[start:end] or self._encoder.text_of(token),
                    token,
                    weight,
                    origin.message if origin is not None and inside else None,
                    record.messages[origin.message].role if origin is not None and inside else "",
                    origin.field if origin is not None else "template",
                    _turn_reason(number, start, end, mask, trains=bool(weight)),
                )
            )
        return views


class _Chat:
    """The compiled template of a data set, and the shape of its turns."""

    def __init__(self, settings: RenderSettings) -> None:
        assert settings.template is not None
        self._name = settings.template.name
        variables = {**settings.special_tokens, **settings.variables}
        try:
            self.compiled = CompiledTemplate(settings.template.text, variables, settings.now)
        except jinja2.TemplateError as error:
            raise DataError(
                f"the chat template {self._name!r} does not compile: {error}",
                hint="correct the template; line numbers count from its first line",
                where="chat_template",
            ) from error
        self._cached_shape = lru_cache(maxsize=64)(self._learn)

    def shape(self, variables: Mapping[str, Any]) -> TurnShape:
        """The shape of turns under a row's own variables."""
        return self._cached_shape(json.dumps(variables, sort_keys=True, default=str))

    def _learn(self, variables: str) -> TurnShape:
        extra = json.loads(variables)

        def render(messages: Sequence[Mapping[str, Any]], *, prompt: bool) -> Tracked:
            return self.compiled.render(messages, (), extra, prompt=prompt)

        try:
            return learn_shape(render)
        except (TemplateShapeError, jinja2.TemplateError, TypeError, KeyError) as error:
            raise DataError(
                f"the chat template {self._name!r} cannot be used for training: {error}",
                hint="use another `chat_template`, or give this one a generation prompt",
                where="chat_template",
            ) from error

    def renderer(self, record: Conversation) -> Callable[[int], Tracked]:
        """A function that renders the first n messages; errors of the template are row errors."""
        messages = [message.fields for message in record.messages]

        def render(count: int) -> Tracked:
            return self._checked(messages[:count], record)

        return lru_cache(maxsize=None)(render)

    def _checked(self, messages: Sequence[Mapping[str, Any]], record: Conversation) -> Tracked:
        """The rendering with origins, its text equal to the plain rendering."""
        try:
            text = self.compiled.render(messages, record.tools, record.variables)
            reference = self.compiled.render_plain(messages, record.tools, record.variables)
        except (MemoryError, RecursionError):
            raise
        except Exception as error:
            raise RowError(
                "messages",
                f"the chat template refuses this row: {_first_line(error)}",
                "correct the row, or use a template that takes such rows",
            ) from error
        if plain(text) != reference:
            raise RowError(
                "messages",
                "following the origins of this row's text changed the text: a bug of ours",
                "report it with the template; another template avoids it",
            )
        return text


# --- pieces of the above --------------------------------------------------------------------------


def train_tokens(
    encoded: Encoded, spans: Iterable[tuple[int, int]], n_characters: int
) -> list[bool]:
    """Whether each token trains: only where all of its characters do.

    A token without characters of its own trains inside a span, not at its start.
    """
    flags = np.zeros(n_characters + 1, dtype=np.int64)
    for start, end in spans:
        flags[start:end] = 1
    total = np.concatenate([[0], np.cumsum(flags)])
    offsets = np.asarray(encoded.offsets, dtype=np.int64).reshape(-1, 2)
    starts, ends = offsets[:, 0], offsets[:, 1]
    covered = (total[ends] - total[starts] == ends - starts) & (ends > starts)
    empty = (ends == starts) & (flags[starts] == 1) & (flags[np.maximum(starts - 1, 0)] == 1)
    return list(map(bool, covered | (empty & (starts > 0))))


def runs_of_weights(trained: Sequence[bool]) -> tuple[tuple[int, int, float], ...]:
    """The trained tokens as (start, end, 1.0); the first token is no target."""
    flags = np.concatenate([[False], np.asarray(trained, dtype=bool)[1:], [False]])
    edges = np.flatnonzero(flags[1:] != flags[:-1]) + 1
    pairs = edges.reshape(-1, 2)
    return tuple((int(start), int(end), 1.0) for start, end in pairs)


def _sample(ids: Sequence[int], trained: Sequence[bool], source: Source) -> TokenSample:
    return TokenSample(np.asarray(ids, dtype=np.int32), runs_of_weights(trained), str(source))


def _pieces(record: Text | Segments) -> list[tuple[str, bool]]:
    if isinstance(record, Text):
        return [(record.text, True)]
    return [(piece.text, piece.train) for piece in record.pieces]


def _straddles(text: Tracked, encoded: Encoded, mask: Mask) -> Iterator[Lint]:
    """A finding for each token that reaches over a body's start; it does not train."""
    starts = {turn.start for turn in mask.turns if turn.trains}
    for start, end in encoded.offsets:
        for border in starts.intersection(range(start + 1, end)):
            yield Lint(
                "straddling-token",
                f"the token {plain(text)[start:end]!r} reaches over the start of a turn's body "
                f"by {end - border} characters and does not train",
            )


def _is_proved(source: Source) -> bool:
    return source.row <= _PROVED_ROWS or source.row % _PROVED_EVERY == 0


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def _not_text(error: UnicodeEncodeError) -> RowError:
    return RowError(
        "",
        f"the text holds half of a surrogate pair at character {error.start}",
        "remove it: it is no character, and no tokenizer can read it",
    )


def _plain_reason(number: int, weight: float) -> str:
    if number == 0:
        return "nothing predicts the first token"
    return "trains" if weight else "a piece that does not train"


def _turn_reason(number: int, start: int, end: int, mask: Mask, *, trains: bool) -> str:
    if trains:
        stop = any(s.start <= start < s.end for turn in mask.turns for s in turn.stops)
        return "end of turn" if stop else "body of a trained turn"
    if number == 0:
        return "nothing predicts the first token"
    if any(start < high and low < end for low, high in mask.spans):
        return "reaches over a body's border"
    for turn in mask.turns:
        if any(stop.start <= start < stop.end for stop in turn.stops):
            return "an end of turn that does not train"
        if turn.first <= start < turn.end:
            return "a turn that does not train"
    return "template text outside of bodies"
