"""Text to token ids with the character span of each token, by the tokenizers library alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from tunesmith.data.words import find_table
from tunesmith.errors import ModelError

_CUT = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes for bytes that are no whole character."""

_LONGEST_CHARACTER = 4
"""Bytes of UTF-8, and so tokens, that one character takes at most."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids, and for each token the half-open span of the characters that it covers.

    ``ids`` is int32 [n], ``offsets`` int64 [n, 2].
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]


class Encoder:
    """A ``tokenizer.json``, with what it adds around a text kept apart.

    The post-processor is taken off: it adds special tokens, and some trim the blanks off the
    offsets, which would hide that a token reaches over a turn's border.
    ``opening`` and ``closing`` are the ids that it puts around a text; ``vocabulary`` is one more
    than its last id.
    """

    def __init__(self, folder: str) -> None:
        path = Path(folder) / "tokenizer.json"
        if not path.is_file():
            raise ModelError(
                f"the tokenizer has no fast form: {path} is missing",
                hint="masks need a fast tokenizer; convert it with transformers' save_pretrained",
                where="tokenizer_config",
            )
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.opening, self.closing = _added(self._tokenizer)
        self._tokenizer.post_processor = None
        self._table = find_table(self._tokenizer)
        self.vocabulary: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self.special: frozenset[str] = frozenset(
            token.content
            for token in self._tokenizer.get_added_tokens_decoder().values()
            if token.special
        )

    def encode(self, text: str) -> Encoded:
        """The text's tokens, nothing added; ``UnicodeEncodeError`` for half a surrogate pair."""
        if self._table is not None and (found := self._table.encode(text)) is not None:
            ends = np.cumsum(found[1], dtype=np.int64)
            starts = ends - np.asarray(found[1], dtype=np.int64)
            return Encoded(np.asarray(found[0], dtype=np.int32), np.stack([starts, ends], axis=1))
        encoding = self._encoding(text)
        return Encoded(
            np.asarray(encoding.ids, dtype=np.int32),
            np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2),
        )

    def encode_each(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, tokenized by itself, nothing added; raises as ``encode``."""
        return [self._ids(text) for text in texts]

    def _ids(self, text: str) -> list[int]:
        found = self._table.encode(text) if self._table is not None else None
        return found[0] if found is not None else self._encoding(text).ids

    def _encoding(self, text: str) -> Encoding:
        try:
            return self._tokenizer.encode(text, add_special_tokens=False)
        except TypeError:  # what the library says when text is no valid UTF-8
            text.encode()
            raise

    def text_of(self, token: int) -> str:
        """The token's own text, special tokens included."""
        return self._decode([token])

    def texts_of(self, tokens: Sequence[int]) -> list[str]:
        """Each token's text; a character of several tokens stands with the last of them."""
        texts, open_bytes = [], list[int]()
        for token in tokens:
            open_bytes.append(token)
            text = self._decode(open_bytes)
            is_cut = text.endswith(_CUT) and len(open_bytes) < _LONGEST_CHARACTER
            texts.append("" if is_cut else text)
            open_bytes = open_bytes if is_cut else []
        return texts

    def _decode(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=False))


def _added(tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids that the tokenizer puts before and behind a text."""
    whole = tokenizer.encode("a").ids
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    starts = (at for at in range(len(whole)) if whole[at : at + len(bare)] == bare)
    start = next(starts, len(whole))
    return tuple(whole[:start]), tuple(whole[start + len(bare) :])
