"""Rows without turns as token ids: texts, pieces of text, and what was tokenized elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tunesmith.data.encode import Encoder
from tunesmith.data.records import Drawn, RowError, Segment, Segments, Text, Tokens
from tunesmith.data.tokens import weigh_tokens

Token = tuple[int, bool]
"""An id and whether it trains."""

PlainRecord = Text | Segments | Tokens | Drawn
"""A record that no template renders."""


class PieceEncoder:
    """Makes tokens of records that no template renders.

    ``eos_id`` closes texts and answers; None closes them with what the tokenizer itself adds.
    ``sequence_len`` is the length of drawn rows that have none of their own.
    """

    def __init__(self, encoder: Encoder, eos_id: int | None, sequence_len: int) -> None:
        self._encoder = encoder
        self._eos_id = eos_id
        self._sequence_len = sequence_len

    def tokens(self, record: PlainRecord) -> list[Token]:
        """Ids with whether they train, special tokens at both ends included.

        Raises:
            RowError: the record's own ids are not in the vocabulary.
            UnicodeEncodeError: a text holds half of a surrogate pair.
        """
        if isinstance(record, Tokens):
            return self._known(record)
        if isinstance(record, Drawn):
            return self._drawn(record)
        if isinstance(record, Text):
            ids = self._encoder.encode_each([record.text])[0]
            return self._framed([(token, True) for token in ids], first=True, last=True)
        tokens = [token for group in _groups(record.pieces) for token in self._group(group)]
        if not record.special_tokens or not record.pieces:
            return tokens
        last = record.pieces[-1].train if record.closed else None
        return self._framed(tokens, first=record.pieces[0].train, last=last)

    def _framed(self, tokens: list[Token], *, first: bool, last: bool | None) -> list[Token]:
        """The tokens between bos and eos, which train or not; ``last=None`` adds no eos."""
        opening = [(token, first) for token in self._encoder.opening]
        closing = [] if last is None else [(token, last) for token in self._closing(tokens)]
        return opening + tokens + closing

    def _closing(self, tokens: Sequence[Token]) -> list[int]:
        """The eos unless the text ends with it, after what else the tokenizer closes with."""
        eos = self._eos_id
        closing = [token for token in self._encoder.closing if token != eos]
        if eos is None or (not closing and tokens and tokens[-1][0] == eos):
            return closing
        return [*closing, eos]

    def _group(self, pieces: Sequence[Segment]) -> list[Token]:
        """Pieces that are tokenized as one text, with the end tokens of the last of them."""
        last = pieces[-1]
        if len(pieces) == 1:
            ids = self._encoder.encode_each([last.text])[0]
            tokens = [(token, last.train) for token in ids]
        else:
            tokens = self._glued(pieces)
        if last.eos and self._eos_id is not None:
            has_one = bool(tokens) and tokens[-1][0] == self._eos_id
            tokens += [(self._eos_id, last.train)] * (last.eos - has_one)
        return tokens

    def _glued(self, pieces: Sequence[Segment]) -> list[Token]:
        """One encoding of all the pieces; a token trains where all of its characters do."""
        spans, end = [], 0
        for piece in pieces:
            start, end = end, end + len(piece.text)
            if piece.train:
                spans.append((start, end, 1.0))
        encoded = self._encoder.encode("".join(piece.text for piece in pieces))
        weights = weigh_tokens(encoded, spans, end)
        return list(zip(encoded.ids.tolist(), (weights > 0).tolist(), strict=True))

    def _known(self, record: Tokens) -> list[Token]:
        size = self._encoder.vocabulary
        for at, token in enumerate(record.ids):
            if token >= size:
                message = f"is {token}, and the vocabulary ends before {size}"
                fix = "tokenize the rows with this model's tokenizer"
                raise RowError(f"input_ids[{at}]", message, fix)
        return list(zip(record.ids, record.train, strict=True))

    def _drawn(self, record: Drawn) -> list[Token]:
        size = self._encoder.vocabulary
        high = size if record.high is None else record.high
        if not 0 <= record.low < high <= size:
            message = f"asks for ids from {record.low} up to {high}"
            raise RowError("high", message, f"choose them between 0 and {size}")
        draw = np.random.default_rng([record.seed, record.number])
        ids = draw.integers(record.low, high, size=record.length or self._sequence_len).tolist()
        return [(token, True) for token in ids]


def _groups(pieces: Sequence[Segment]) -> Iterator[list[Segment]]:
    """The pieces in groups that are tokenized together."""
    group: list[Segment] = []
    for piece in pieces:
        if group and not piece.glued:
            yield group
            group = []
        group.append(piece)
    if group:
        yield group
