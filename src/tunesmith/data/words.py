"""Byte-level BPE by the word: each word is tokenized once, then looked up.

A byte-level tokenizer cuts a text at its added tokens, then into words by a pattern, and tokenizes
each word by itself. So the ids of a text are those of its words one after the other, and the words
of a data set repeat. Only ASCII is taken: there the pattern's classes are the same for every
version of Unicode, a character is a byte, and normalisation changes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from tokenizers import Tokenizer

GPT2: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""The pattern of ``ByteLevel`` where it splits by itself (Radford et al. 2019)."""

_MOST_WORDS = 1 << 16
_LONGEST_WORD = 64
_PROBE = "It's 12345 o'clock:\r\n\n  don't  WE'LL\tgo_on (x+=1); \"why?\" \x0b\x1c~ <|a|> </s>\n \n"

Word = tuple[list[int], list[int]]
"""The ids of a word, and how many characters each of them covers."""


class WordTable:
    """The words met so far of a tokenizer that cuts text as ``find_table`` says."""

    def __init__(
        self, tokenizer: Tokenizer, pattern: re.Pattern[str], added: Mapping[str, int]
    ) -> None:
        self._tokenizer = tokenizer
        self._words = pattern
        self._added = added
        longest_first = sorted(added, key=len, reverse=True)
        self._cuts = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if added else None
        self._known: dict[str, Word] = {}

    def encode(self, text: str) -> Word | None:
        """The text's ids and their lengths; None where only the library knows."""
        if not text.isascii():
            return None
        ids: list[int] = []
        lengths: list[int] = []
        for part in self._cuts.split(text) if self._cuts else (text,):
            if part in self._added:
                ids.append(self._added[part])
                lengths.append(len(part))
                continue
            for word in self._words.findall(part):
                known = self._known.get(word) or self._learn(word)
                if known is None:
                    return None
                ids += known[0]
                lengths += known[1]
        return (ids, lengths) if sum(lengths) == len(text) else None  # the pattern left gaps

    def _learn(self, word: str) -> Word | None:
        """Tokenize a word alone; None for one that is cut again, or whose tokens leave gaps.

        The latter are bytes that the vocabulary lacks.
        """
        if self._words.findall(word) != [word]:
            return None
        encoding = self._tokenizer.encode(word, add_special_tokens=False)
        borders = [0, *(end for _, end in encoding.offsets)]
        if borders[-1] != len(word) or [start for start, _ in encoding.offsets] != borders[:-1]:
            return None
        found = encoding.ids, [end - start for start, end in encoding.offsets]
        if len(word) <= _LONGEST_WORD:
            if len(self._known) >= _MOST_WORDS:
                self._known.clear()
            self._known[word] = found
        return found


def find_table(tokenizer: Tokenizer) -> WordTable | None:
    """The table of a tokenizer without post-processor, None where words are not by themselves."""
    facts = json.loads(tokenizer.to_str())
    model, added = facts["model"], facts["added_tokens"]
    pattern = _pattern_of(facts["pre_tokenizer"])
    is_plain = model["type"] == "BPE" and not model.get("dropout")
    is_kept = facts["normalizer"] is None or facts["normalizer"]["type"] == "NFC"
    is_strict = not any(a["lstrip"] or a["rstrip"] or a["single_word"] for a in added)
    if pattern is None or not (is_plain and is_kept and is_strict):
        return None
    table = WordTable(tokenizer, pattern, {token["content"]: token["id"] for token in added})
    probe = _PROBE + "".join(token["content"] for token in added[:8])
    expected = tokenizer.encode(probe, add_special_tokens=False)
    found = table.encode(probe)
    return table if found is not None and found[0] == expected.ids else None


def _pattern_of(splitter: dict[str, Any] | None) -> re.Pattern[str] | None:
    """How the tokenizer cuts ASCII into words; None for what is not understood."""
    match splitter:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
            return _for_ascii(GPT2)
        case {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": str(pattern)},
                    "behavior": "Isolated",
                    "invert": False,
                },
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        }:
            return _for_ascii(pattern)
    return None


def _for_ascii(pattern: str) -> re.Pattern[str] | None:
    """The pattern with the ASCII letters and digits in place of all of Unicode's."""
    text = _CLASS.sub(lambda found: _narrowed(found.group()), pattern)
    if r"\p" in text or r"\P" in text:
        return None
    try:
        compiled = re.compile(text, re.ASCII)
    except re.error:
        return None
    return compiled if compiled.groups == 0 else None


_CLASS = re.compile(r"\[(?:[^\]\\]|\\.(?:\{\w+\})?)*\]|\\p\{[LN]\}")
_ASCII: Final = {r"\p{L}": "A-Za-z", r"\p{N}": "0-9"}


def _narrowed(piece: str) -> str:
    """A class, or a property by itself, without the properties."""
    is_class = piece.startswith("[")
    for name, characters in _ASCII.items():
        piece = piece.replace(name, characters)
    return piece if is_class else f"[{piece}]"
