"""What looks odd in a text by itself: cut off, looping, or damaged by a wrong encoding.

These are guesses, and each leans towards silence: a finding that is wrong one time in two is read
by nobody. Texts of fewer than some hundred characters are left alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from tunesmith.data.records import Lint

_LONG: Final = 200
"""Characters from which on a text is judged."""

_SENTENCES: Final = 3
"""Sentences that must be closed elsewhere in a text before an open end says anything."""

_CLOSED: Final = re.compile(r"[.!?…؟।][\"'”’»)\]*_]*(?=\s)|[。！？][”’」』）]*")
"""The end of a sentence inside of a text."""

_OPEN_WORDS: Final = 3
_OPEN_LETTERS: Final = 8
"""How much must stand after the last sentence: words, or letters where words have no blanks."""

_FENCE: Final = re.compile(r"^[ \t]*(?:[-*+>]|\d+\.)?[ \t]*(`{3,}|~{3,})(.*)$", re.MULTILINE)
_LIST_ITEM: Final = re.compile(r"\s*(?:[-*+•|#>]|\(?\w{1,3}[.)])\s")

_PROBES: Final = 7
_PROBE_LETTERS: Final = 16
"""Before anything is counted, so many short pieces of the text are looked for in all of it."""

_GRAM: Final = 8
_TIMES: Final = 6
_SHARE: Final = 0.4
"""A loop: the same eight words (or letters without blanks) so often, and so much of the text."""

_REST: Final = "\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
"""What the later bytes of a UTF-8 character become when they are read as Latin-1 or CP1252."""

_SUSPECT: Final = re.compile("[ÂÃâðÐÑä-é\N{REPLACEMENT CHARACTER}]")
"""Letters that every damage begins with: found fast, and in most texts absent."""

_DAMAGED: Final = re.compile(
    "\N{REPLACEMENT CHARACTER}"
    r"|[ÂÃ][\x80-\xbf]"
    rf"|â(?:€[{_REST}]|[\x80-\x9f][\x80-\xbf])|ð[Ÿ\x9f][{_REST}]{{2}}"
    rf"|(?:[ÐÑ][{_REST}]){{3}}|(?:[ä-é][{_REST}]{{2}}){{2}}"
)


def lint_damage(place: str, text: str) -> Iterator[Lint]:
    """The first place where a wrong encoding has left its marks."""
    if text.isascii() or not _SUSPECT.search(text):
        return
    if found := _DAMAGED.search(text):
        around = text[max(0, found.start() - 10) : found.end() + 10]
        why = (
            "holds U+FFFD, which stands for bytes that were lost"
            if found.group() == "\N{REPLACEMENT CHARACTER}"
            else "looks like UTF-8 that was read as Latin-1"
        )
        yield Lint("damaged-text", f"{place} {why}: {around!r}")


def lint_answer(place: str, text: str) -> Iterator[Lint]:
    """Whether an answer stops before its end, or loops."""
    if len(text) < _LONG:
        return
    if has_open_fence(text):
        yield Lint("open-code-fence", f"{place} opens a code fence that nothing closes")
    elif stops_midway(text):
        yield Lint("cut-answer", f"{place} stops in the middle of a sentence: {text[-40:]!r}")
    yield from lint_loop(place, text)


def lint_loop(place: str, text: str) -> Iterator[Lint]:
    """Whether the same few words make up much of a text."""
    if found := loop_of(text):
        times, gram = found
        yield Lint("repeated-text", f"{place} says {gram!r} {times:,} times")


def has_open_fence(text: str) -> bool:
    """Whether a fenced block of code is opened and not closed.

    A fence is closed by one of its own letter that is as long or longer and has nothing after it.
    """
    if "```" not in text and "~~~" not in text:
        return False
    opened = ""
    for fence in _FENCE.finditer(text):
        mark, rest = fence.groups()
        if not opened:
            opened = mark if "`" not in rest else ""
        elif mark.startswith(opened) and not rest.strip():
            opened = ""
    return bool(opened)


def stops_midway(text: str) -> bool:
    """Whether prose ends inside of a sentence although its other sentences are closed."""
    text = text.rstrip()
    line = text[text.rfind("\n") + 1 :]
    last = line[-1:]
    if not (last.islower() or last in ",;" or _is_unspaced(last)) or _LIST_ITEM.match(line):
        return False
    ends = list(_CLOSED.finditer(line))
    if not ends or len(ends) < _SENTENCES > len(_CLOSED.findall(text)):
        return False
    rest = line[ends[-1].end() :]
    if _is_unspaced(last):
        return len(rest) >= _OPEN_LETTERS
    return len(rest.split()) >= _OPEN_WORDS


def _is_unspaced(letter: str) -> bool:
    """Whether a letter is of a script without blanks and without capitals (Chinese, Japanese)."""
    return "\u3040" <= letter <= "\u30ff" or "\u3400" <= letter <= "\u9fff"


def loop_of(text: str) -> tuple[int, str] | None:
    """How often the most frequent words stand in a text that mostly repeats them, and the words."""
    if len(text) < _LONG:
        return None
    starts = range(0, len(text) - _PROBE_LETTERS, len(text) // _PROBES)
    if not any(text.count(text[at : at + _PROBE_LETTERS]) >= _TIMES for at in starts):
        return None
    words = text.split()
    units = words if len(words) * 12 > len(text) else list(text)
    joint = " " if units is words else ""
    grams = Counter(tuple(units[at : at + _GRAM]) for at in range(len(units) - _GRAM + 1))
    if not grams:
        return None
    gram, times = grams.most_common(1)[0]
    covered = _covered(units, gram)
    if times < _TIMES or covered < _SHARE * len(units):
        return None
    return times, joint.join(gram)


def _covered(units: list[str], gram: tuple[str, ...]) -> int:
    """How many units lie in some occurrence of the gram."""
    covered = end = 0
    for at in range(len(units) - len(gram) + 1):
        if tuple(units[at : at + len(gram)]) == gram:
            covered += at + len(gram) - max(at, end)
            end = at + len(gram)
    return covered
