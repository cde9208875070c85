"""Edits of YAML text at one key or item: every other byte stays what it was.

A round trip through a YAML library lays the whole file out anew (indents, quotes, line breaks).
Here the parser only says where each key and value stands, and the text is cut and joined there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.events import (
    AliasEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from tunesmith.config.tree import Path, read_tree, scalar

_PLAIN = re.compile(r"[A-Za-z0-9_./~][A-Za-z0-9_./@+~-]*\Z")
_OLD_BOOLEANS = {"yes", "no", "on", "off"}
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
_NOT_FINITE = {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}
_COMMENT = re.compile(r"(?:^|(?<=[ \t]))#[^\r\n]*", re.MULTILINE)


@dataclass(slots=True)
class Span:
    """Where a value stands in the text, ``text[start:end]``, and what lies in it.

    ``pairs`` are a mapping's keys with their values, ``items`` a list's. ``flow`` is true for the
    forms in brackets. The end is that of the last word: no comment or empty line behind it.
    """

    kind: str
    start: int
    end: int
    flow: bool = False
    pairs: list[tuple[str, Span, Span]] = field(default_factory=list)
    items: list[Span] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        """A mapping's keys."""
        return {name for name, _, _ in self.pairs}


class Text:
    """A YAML document as text; each edit reads it anew.

    ``quoted``: all of its keys stand in quotes, as in JSON, and so must what is added.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self._read()
        pairs = self.root.pairs if self.root else []
        self.quoted = bool(pairs) and all(text[key.start] == '"' for _, key, _ in pairs)

    def _read(self) -> None:
        self.scalars: list[tuple[int, int]] = []
        yaml = YAML(typ="safe", pure=True)
        yaml.version = (1, 2)
        events = iter(yaml.parse(self.text))
        self.root: Span | None = None
        for event in events:
            if isinstance(event, ScalarEvent | MappingStartEvent | SequenceStartEvent | AliasEvent):
                self.root = self._span(event, events)

    def _span(self, event: Event, events: Iterator[Event]) -> Span:
        start, end = event.start_mark.index, event.end_mark.index
        if isinstance(event, MappingStartEvent):
            return self._mapping(Span("mapping", start, end, bool(event.flow_style)), events)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(Span("sequence", start, end, bool(event.flow_style)), events)
        if isinstance(event, AliasEvent):
            return Span("alias", start, end)
        block = isinstance(event, ScalarEvent) and event.style in ("|", ">")
        if block:
            end = start + len(self.text[start:end].rstrip())
        self.scalars.append((start, end))
        return Span("block" if block else "scalar", start, end)

    def _mapping(self, span: Span, events: Iterator[Event]) -> Span:
        for event in events:
            if isinstance(event, MappingEndEvent):
                last = span.pairs[-1][2].end if span.pairs else span.end
                span.end = event.end_mark.index if span.flow else last
                break
            key = self._span(event, events)
            value = self._span(next(events), events)
            if value.start == value.end:  # nothing: it stands where the colon ends
                value.start = value.end = self.text.index(":", key.end) + 1
            span.pairs.append((str(getattr(event, "value", "")), key, value))
        return span

    def _sequence(self, span: Span, events: Iterator[Event]) -> Span:
        for event in events:
            if isinstance(event, SequenceEndEvent):
                last = span.items[-1].end if span.items else span.end
                span.end = event.end_mark.index if span.flow else last
                break
            span.items.append(self._span(event, events))
        return span

    def find(self, path: Path) -> Span | None:
        """The value at a path, or None where the text itself has none there."""
        span = self.root
        for part in path:
            if span is None:
                return None
            if span.kind == "sequence" and isinstance(part, int):
                span = span.items[part] if part < len(span.items) else None
            else:
                span = next((value for name, _, value in span.pairs if name == str(part)), None)
        return span

    def raw(self, span: Span) -> str:
        """The value as it is written."""
        return self.text[span.start : span.end]

    def value(self, span: Span) -> Any:
        """The plain value that stands there."""
        indent = " " * self.column(span.start)  # the first line lost its own
        return read_tree(indent + self.raw(span) + "\n", "").values

    def column(self, index: int) -> int:
        """How far a position is from the begin of its line."""
        return index - (self.text.rfind("\n", 0, index) + 1)

    def _cut(self, start: int, end: int, new: str) -> None:
        self.text = self.text[:start] + new + self.text[end:]
        self._read()

    # --- edits ------------------------------------------------------------------------------------

    def rename(self, path: Path, new: str) -> None:
        """Give the key at ``path`` another name; value, comments and place stay."""
        key = self._key(path)
        self._cut(key.start, key.end, self._written(new))

    def change(self, path: Path, value: Any) -> None:
        """Write another value at ``path``, on one line."""
        self._change(path, self._written(value))

    def open(self, path: Path, name: str, value: Any) -> None:
        """Make the item of a list at ``path`` a mapping of one key, without brackets."""
        self._change(path, f"{self._written(name)}: {self._written(value)}")

    def _change(self, path: Path, text: str) -> None:
        span = self._at(path)
        blank = " " if span.start == span.end else ""
        self._cut(span.start, span.end, blank + text)

    def _written(self, value: Any) -> str:
        return written(value, quoted=self.quoted)

    def wrap(self, path: Path) -> None:
        """Make the value at ``path`` the one item of a list."""
        span = self._at(path)
        if span.flow or span.kind != "mapping":
            raw = self.raw(span)
            plain = raw[:1] not in "\"'" and not span.flow
            self._cut(
                span.start, span.end, f"[{self._written(self.value(span)) if plain else raw}]"
            )
            return
        first = self.text.rfind("\n", 0, span.pairs[0][1].start) + 1
        indent = span.pairs[0][1].start - first
        lines = self.text[first : span.end].splitlines(keepends=True)
        moved = [line[:indent] + "  " + line[indent:] if line.strip() else line for line in lines]
        moved[0] = lines[0][:indent] + "- " + lines[0][indent:]
        self._cut(first, span.end, "".join(moved))

    def add(self, path: Path, values: Mapping[str, Any]) -> None:
        """Write keys at the end of the mapping at ``path`` (() is the whole document)."""
        span = self.find(path)
        if span is None or not span.pairs:
            raise LookupError(path)
        self._insert(span, span.pairs[-1][2], values)

    def add_after(self, path: Path, values: Mapping[str, Any]) -> None:
        """Write keys behind the one at ``path``, in its mapping."""
        span = self._at(path[:-1])
        self._insert(span, self._at(path), values)

    def _insert(self, span: Span, value: Span, values: Mapping[str, Any]) -> None:
        if span.flow:
            self._cut(value.end, value.end, "".join(f", {one}" for one in self._pairs(values)))
            return
        at = self._line_end(value.end)
        column = self.column(span.pairs[0][1].start)
        indented = [
            self.newline + " " * column + line for line in block_lines(values, quoted=self.quoted)
        ]
        self._cut(at, at, "".join(indented))

    def _pairs(self, values: Mapping[str, Any], raw: Mapping[str, str] | None = None) -> list[str]:
        return _flow_pairs(values, raw, quoted=self.quoted)

    def put_instead(self, path: Path, values: Mapping[str, Any], raw: Mapping[str, str]) -> None:
        """Write keys in the place of the one at ``path``; ``raw`` has words to keep as written."""
        key, value = self._key(path), self._at(path)
        if self._at(path[:-1]).flow:
            self._cut(key.start, value.end, ", ".join(self._pairs(values, raw)))
            return
        join = self.newline + " " * self.column(key.start)
        self._cut(key.start, value.end, join.join(block_lines(values, raw, quoted=self.quoted)))

    def remove(self, path: Path) -> None:
        """Take a key or item out. A comment at its line becomes one of its own."""
        around = self._at(path[:-1])
        if around.kind == "mapping":
            spans = [(key.start, value.end) for _, key, value in around.pairs]
            number = next(i for i, pair in enumerate(around.pairs) if pair[0] == path[-1])
        else:
            spans = [(item.start, item.end) for item in around.items]
            number = int(path[-1])
            if not around.flow:
                spans = [(self.text.rindex("-", 0, start), end) for start, end in spans]
        if around.flow:
            self._remove_from_flow(spans, number)
        else:
            self._remove_lines(spans, number)

    def _remove_from_flow(self, spans: list[tuple[int, int]], number: int) -> None:
        start, end = spans[number]
        if number + 1 < len(spans):
            end = spans[number + 1][0]
        elif number:
            start = spans[number - 1][1]
        self._cut(start, end, "")

    def _remove_lines(self, spans: list[tuple[int, int]], number: int) -> None:
        start, end = spans[number]
        begin = self.text.rfind("\n", 0, start) + 1
        stop = self._line_end(end)
        kept = [f"# {comment.lstrip('# ')}" for comment in self._comments(start, stop)]
        own_line = not self.text[begin:start].strip()
        if own_line:
            indent = self.text[begin:start]
            after = stop + len(self.newline) if stop < len(self.text) else stop
            end, below = self._comments_below(after, len(indent))
            own = "".join(indent + line + self.newline for line in kept)
            self._cut(begin, end, own + below)
        elif number + 1 < len(spans):  # behind the dash of its item: the next key moves up
            following = spans[number + 1][0]
            kept += self._comments(stop, following)
            before = self.text[begin:start]
            margin = before[: len(before) - len(before.lstrip())]
            lines = [margin + line + self.newline for line in kept]
            self._cut(start, following, "")
            self._cut(begin, begin, "".join(lines))
        else:
            self._cut(start, end, "{}")

    def _comments(self, start: int, end: int) -> list[str]:
        inside = [(a, b) for a, b in self.scalars if a < end and b > start]
        return [
            found[0]
            for found in _COMMENT.finditer(self.text, start, end)
            if not any(a <= found.start() < b for a, b in inside)
        ]

    def _comments_below(self, start: int, indent: int) -> tuple[int, str]:
        """The comments from a line on, up to the next word, none further in than ``indent``: behind
        a block of text they would become a part of it once the key between is gone.
        """
        found = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n)*(?:[ \t]*#[^\n]*\Z)?").match(self.text, start)
        lines = found[0].splitlines(keepends=True) if found else []
        margins = [len(line) - len(line.lstrip(" \t")) for line in lines]
        cut = [
            line[margin - indent :] if margin > indent and "#" in line else line
            for line, margin in zip(lines, margins, strict=True)
        ]
        return start + sum(map(len, lines)), "".join(cut)

    def _line_end(self, index: int) -> int:
        """Where the line of a position ends, before its break."""
        at = self.text.find("\n", index)
        at = len(self.text) if at < 0 else at
        return at - 1 if self.text[at - 1 : at] == "\r" else at

    def _at(self, path: Path) -> Span:
        span = self.find(path)
        if span is None:
            raise LookupError(path)
        return span

    def _key(self, path: Path) -> Span:
        around = self._at(path[:-1])
        return next(key for name, key, _ in around.pairs if name == path[-1])


def written(value: Any, *, quoted: bool = False) -> str:
    """A value on one line, as YAML reads it back; ``quoted`` puts every text in quotes."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return _NOT_FINITE.get(str(value), str(value))
    if isinstance(value, Mapping):
        return "{" + ", ".join(_flow_pairs(value, quoted=quoted)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(written(item, quoted=quoted) for item in value) + "]"
    text = str(value)
    plain = _PLAIN.match(text) and scalar(text) == text and text.lower() not in _OLD_BOOLEANS
    return text if plain and not quoted else f'"{"".join(map(_escaped, text))}"'


def _escaped(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter.isprintable():
        return letter
    number = ord(letter)
    width, mark = (2, "x") if number < 0x100 else (4, "u") if number < 0x10000 else (8, "U")
    return f"\\{mark}{number:0{width}x}"


def block_lines(
    values: Mapping[str, Any], raw: Mapping[str, str] | None = None, *, quoted: bool = False
) -> list[str]:
    """The lines of a block mapping without its outer indent; ``raw`` has values already written."""
    lines: list[str] = []
    for name, value in values.items():
        key = written(name, quoted=quoted)
        if raw and name in raw:
            lines.append(f"{key}: {raw[name]}")
        elif isinstance(value, Mapping) and value:
            lines.append(f"{key}:")
            lines += ["  " + line for line in block_lines(value, raw, quoted=quoted)]
        else:
            lines.append(f"{key}: {written(value, quoted=quoted)}")
    return lines


def _flow_pairs(
    values: Mapping[str, Any], raw: Mapping[str, str] | None = None, *, quoted: bool = False
) -> list[str]:
    pairs: list[str] = []
    for name, value in values.items():
        text = raw[name] if raw and name in raw else written(value, quoted=quoted)
        pairs.append(f"{written(name, quoted=quoted)}: {text}")
    return pairs
