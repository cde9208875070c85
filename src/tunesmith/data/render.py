"""Records to samples: the text of a row in tokens, and which of them train.

Nothing here imports torch or transformers, so that the processes which run templates start fast.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.chat import Chat
from tunesmith.data.encode import Encoder
from tunesmith.data.formats.lint import lint_record
from tunesmith.data.history import plan_samples
from tunesmith.data.masking import Mask, Masker
from tunesmith.data.origin import TOOLS, UNKNOWN, Tracked, plain, spans_of
from tunesmith.data.pieces import PieceEncoder, PlainRecord, Token
from tunesmith.data.proof import prove_origins, prove_prompt
from tunesmith.data.records import Conversation, Lint, RowError, Source, Text, TokenRecord
from tunesmith.data.samples import TokenSample
from tunesmith.data.shape import ASSISTANT
from tunesmith.data.templates import ChatTemplate
from tunesmith.data.token_lint import TokenRules, lint_tokens, pattern_of
from tunesmith.data.tokens import (
    NO_TARGET,
    TokenView,
    runs_of_weights,
    straddles,
    view_turns,
    weigh_tokens,
)
from tunesmith.data.turns import Ends, Stops
from tunesmith.errors import DataError

RENDER_VERSION: Final = "4"
"""Part of every cache key: raised when the same row and settings give other tokens."""

History = Literal["whole", "expand", "last"]

_PROVED_ROWS = 64
_PROVED_EVERY = 1000

Row = tuple[Source, TokenRecord]


@dataclass(frozen=True, slots=True)
class RenderSettings:
    """How the rows of one data set become tokens.

    ``tokenizer_path``: a folder with ``tokenizer.json``; ``tokenizer_digest``: the hash of its
    content, which goes into the cache key in the path's place. ``sequence_len``: the length of the
    pieces that plain text is cut into. ``special_tokens``: the texts that templates see
    (``bos_token``, ...). ``variables``: ``chat_template_kwargs``. ``roles_to_train``: None for all.
    ``roles``: the data set's role mapping, template role -> names. ``turns_to_train``: all of the
    turns that would train, or the last one of them. ``history``: what becomes
    of a row whose template changes earlier turns (None: ``expand``). ``thinking_key``: the
    template's key of the reasoning; ``split_thinking``: answers were split to fill it. ``now``: the
    ISO time that ``strftime_now`` tells.
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
    roles_to_train: tuple[str, ...] | None = (ASSISTANT,)
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    turns_to_train: Literal["all", "last"] = "all"
    train_on_eos: Ends = "turn"
    train_on_eot: Ends | None = None
    history: History | None = None
    thinking_key: str = "reasoning_content"
    split_thinking: bool = False
    now: str = "2024-07-26T00:00:00"

    @property
    def aliases(self) -> dict[str, str]:
        """The template's role for each of the data set's own names."""
        return {name: role for role, names in self.roles.items() for name in names}

    @property
    def parts(self) -> dict[str, Any]:
        """The fields that decide the tokens by themselves; ``digest`` adds template and time."""
        left_out = ("tokenizer_path", "template", "now")
        names = (item.name for item in dataclasses.fields(self))
        return {name: getattr(self, name) for name in names if name not in left_out}

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the tokens: equal rows and equal digests give equal samples."""
        values = self.parts
        values["template"] = self.template.digest if self.template else None
        if self.template and "strftime_now" in self.template.text:
            values["now"] = self.now
        text = json.dumps([RENDER_VERSION, values], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class RenderedRow:
    """What one row became."""

    samples: tuple[TokenSample, ...]
    lints: tuple[Lint, ...] = ()


class Renderer:
    """Makes samples of records; built from settings alone, once in each process.

    Raises ``DataError`` where the template is of no use, ``ModelError`` where the tokenizer is.
    """

    def __init__(self, settings: RenderSettings) -> None:
        self._settings = settings
        self._encoder = Encoder(settings.tokenizer_path)
        self._pieces = PieceEncoder(self._encoder, settings.eos_id, settings.sequence_len)
        self._masker = self._make_masker(settings)
        self._chat: Chat | None = None
        if settings.template is not None:
            variables = {**settings.special_tokens, **settings.variables}
            self._chat = Chat(settings.template, variables, settings.now)
        self._findings = self._check_end(self._chat) if self._chat else ()
        self.rules = self._token_rules()

    def _make_masker(self, settings: RenderSettings) -> Masker:
        eos = settings.train_on_eos
        stops = Stops(
            settings.eos_text,
            settings.eot_tokens,
            self._encoder.special,
            eos,
            settings.train_on_eot or eos,
        )
        return Masker(
            settings.roles_to_train,
            stops,
            settings.aliases,
            last_only=settings.turns_to_train == "last",
            thinking_key=settings.thinking_key,
        )

    def _token_rules(self) -> TokenRules:
        """What to expect of the tokens of every row."""
        named = self._settings.special_tokens
        bos, pad = (self._end_id(named.get(name, "")) for name in ("bos_token", "pad_token"))
        ends = self.end_ids
        return TokenRules(
            opening=self._encoder.opening,
            bos_id=bos,
            stop_ids=ends,
            stops_train=self._settings.train_on_eos in ("turn", "all"),
            pad_id=None if pad in ends else pad,
            special=pattern_of(self._encoder.special),
        )

    def _check_end(self, chat: Chat) -> tuple[Lint, ...]:
        """A finding where no token ends a turn; an error for ``eot_tokens`` that are none."""
        for text in self._settings.eot_tokens:
            if len(ids := self._encoder.encode(text).ids) != 1:
                raise DataError(
                    f"eot_tokens: {text!r} is {len(ids)} tokens: generation cannot stop there",
                    hint="name a token of the tokenizer, or add this one under `tokens`",
                    where="eot_tokens",
                )
        end = chat.shape({}).turn_end
        if not end or self._end_id(end) is not None:
            return ()
        length = len(self._encoder.encode(end).ids)
        message = (
            f"the template ends turns with {end!r}, which is {length} tokens: generation will not "
            "stop there by itself; add it under `tokens` and `eot_tokens`"
        )
        return (Lint("end-of-turn-text", message),)

    def _end_id(self, text: str) -> int | None:
        """The token that a text is, or the special token that it ends with."""
        ids: list[int] = self._encoder.encode(text).ids.tolist()
        if len(ids) > 1 and self._encoder.text_of(ids[-1]) not in self._encoder.special:
            return None
        return ids[-1] if ids else None

    @property
    def end_ids(self) -> frozenset[int]:
        """The ids that end a turn: eos, ``eot_tokens``, and what the template itself writes."""
        texts = [self._settings.eos_text, *self._settings.eot_tokens]
        if self._chat is not None:
            texts.append(self._chat.shape({}).turn_end)
        found = (self._end_id(text) for text in texts if text)
        return frozenset(token for token in found if token is not None)

    def render(self, record: TokenRecord, source: Source) -> RenderedRow:
        """The samples of one record, with what looks odd about it; raises ``RowError``."""
        row = self._rendered(record, source)
        found = list(lint_record(record))
        told = {lint.code for lint in (*found, *row.lints)}
        exact = list(lint_tokens(record, row.samples, self.rules, told))
        if any(lint.code == "special-token" for lint in exact):  # what the other one guesses
            found = [lint for lint in found if lint.code != "special-token-text"]
        found += exact
        odd = (dataclasses.replace(lint, source=str(source)) for lint in found)
        return RenderedRow(row.samples, (*odd, *row.lints))

    def _rendered(self, record: TokenRecord, source: Source) -> RenderedRow:
        try:
            if isinstance(record, Conversation):
                return self._conversation(record, source)
            tokens = self._pieces.tokens(record)
        except UnicodeEncodeError as error:
            raise _not_text(error) from error
        return RenderedRow(tuple(self._cut(record, tokens, source)))

    def explain(self, record: TokenRecord) -> list[list[TokenView]]:
        """Every token of each sample of the record, with where it came from and why it trains."""
        if isinstance(record, Conversation):
            return [
                view_turns(
                    text,
                    self._encoder.encode(plain(text)),
                    mask,
                    record.messages,
                    self._encoder.text_of,
                )
                for text, mask, _ in self._masked(record, None)
            ]
        kind = "text" if isinstance(record, Text) else "piece"
        samples = self._cut(record, self._pieces.tokens(record), Source(0, "", 0))
        return [self._view(sample, kind) for sample in samples]

    @property
    def encoder(self) -> Encoder:
        """The tokenizer of the rows."""
        return self._encoder

    def ask(self, prompt: str | Conversation) -> NDArray[np.int32]:
        """The ids of a prompt as a server is given them, int32 [n]; raises ``RowError``.

        Text is opened as the tokenizer opens texts, turns end with the opening of the answer.
        """
        try:
            if isinstance(prompt, str):
                ids = [*self._encoder.opening, *self._encoder.encode(prompt).ids.tolist()]
                return np.asarray(ids, dtype=np.int32)
            return self._encoder.encode(self._checked_chat(prompt).ask(prompt)).ids
        except UnicodeEncodeError as error:
            raise _not_text(error) from error

    # --- rows without turns ---------------------------------------------------------------------

    def _cut(
        self, record: PlainRecord, tokens: Sequence[Token], source: Source
    ) -> Iterator[TokenSample]:
        if not tokens:
            return
        length = self._settings.sequence_len if isinstance(record, Text) else len(tokens)
        columns = zip(*tokens, strict=True)
        ids, trained = np.array(next(columns), np.int32), np.array(next(columns), np.bool_)
        for start in range(0, len(tokens), length):
            piece = slice(start, start + length)
            yield TokenSample(ids[piece], runs_of_weights(trained[piece]), str(source))

    def _view(self, sample: TokenSample, kind: str) -> list[TokenView]:
        views = []
        weights = sample.target_weights().tolist()
        ids = sample.input_ids.tolist()
        texts = self._encoder.texts_of(ids)
        for number, (token, text, weight) in enumerate(zip(ids, texts, weights, strict=True)):
            reason = "trains" if weight else "a piece that does not train"
            reason = reason if number else NO_TARGET
            views.append(TokenView(text, token, weight, None, "", kind, reason))
        return views

    # --- conversations --------------------------------------------------------------------------

    def _conversation(self, record: Conversation, source: Source) -> RenderedRow:
        samples = []
        lints = list(self._findings)
        for text, mask, more in self._masked(record, source):
            encoded = self._encoder.encode(plain(text))
            weights = weigh_tokens(encoded, mask.spans, len(text))
            lints += [*more, *mask.lints, *straddles(text, encoded, mask)]
            samples.append(TokenSample(encoded.ids, runs_of_weights(weights), str(source)))
        told = dict.fromkeys(lints)  # samples of one row may find the same
        found = tuple(dataclasses.replace(lint, source=str(source)) for lint in told)
        return RenderedRow(tuple(samples), found)

    def _masked(
        self, record: Conversation, source: Source | None
    ) -> list[tuple[Tracked, Mask, list[Lint]]]:
        """The texts that a conversation becomes, each with what of it trains."""
        chat = self._checked_chat(record)
        shape = chat.shape(record.variables)
        trained = self._masker.trained(record.messages)
        history = self._settings.history or "expand"
        samples = plan_samples(record.messages, trained, chat.beginnings(record), history)
        masked = []
        for sample in samples:
            messages = record.messages[: sample.length]
            mask = self._masker.mask(sample.text, messages, trained, shape, sample.part)
            lints = [Lint("history", sample.note)] if sample.note else []
            masked.append((sample.text, mask, lints))
        if masked:
            masked[0][2].extend(self._dropped(record, masked))
        if source is not None and _is_proved(source):
            prove_origins(record, chat.compiled, seed=source.row)
            masked[0][2].extend(prove_prompt(record, chat.compiled, samples[0], masked[0][1]))
        return masked

    def _dropped(
        self, record: Conversation, masked: Sequence[tuple[Tracked, Mask, list[Lint]]]
    ) -> list[Lint]:
        """A finding where no sample prints the row's tools.

        Raises ``RowError`` where none prints the thoughts that its trained answers were split for.
        """
        key = self._settings.thinking_key
        shown = {origin for text, _, _ in masked for _, _, origin in spans_of(text) if origin}
        thoughtful = {
            turn.message
            for _, mask, _ in masked
            for turn in mask.turns
            if turn.trains and record.messages[turn.message].fields.get(key)
        }
        printed = {origin.message for origin in shown if origin.field == key}
        if self._settings.split_thinking and thoughtful and not thoughtful & printed:
            raise RowError(
                f"messages[{min(thoughtful)}]",
                f"turn {min(thoughtful) + 1}: `split_thinking` puts the thought of an answer under "
                f"`{key}`, which the template does not print",
                "take `split_thinking` out, name the template's own key in "
                "`template_thinking_key`, or use a template that prints thoughts",
            )
        if record.tools and not any(origin.message in (TOOLS, UNKNOWN.message) for origin in shown):
            return [Lint("dropped-field", "the template does not print the row's tools")]
        return []

    def _checked_chat(self, record: Conversation) -> Chat:
        if not record.messages:
            raise RowError("messages", "the conversation is empty", "give it at least one turn")
        if self._chat is None:
            raise DataError(
                "a row of turns needs a chat template, and none was chosen",
                hint="set `chat_template`",
                where="chat_template",
            )
        return self._chat


def _is_proved(source: Source) -> bool:
    return source.row <= _PROVED_ROWS or source.row % _PROVED_EVERY == 0


def _not_text(error: UnicodeEncodeError) -> RowError:
    return RowError(
        "",
        f"the text holds half of a surrogate pair at character {error.start}",
        "remove it: it is no character, and no tokenizer can read it",
    )
