"""YAML text -> plain values, and the place of each of them.

YAML 1.2 with what people write anyway: ``1e-4`` is a number, ``10_000`` too, and ``yes``, ``no``,
``on``, ``off`` are remembered, so that a boolean key may take them. Only the event stream of ruamel
is used: no tag is ever constructed, and depth, size and the growth of aliases are bounded here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.reader import ReaderError

from tunesmith.config.paths import Path as Path
from tunesmith.config.paths import PathTable
from tunesmith.errors import Problem

# Any text of this size is read or refused in about half a second (ruamel scans 2 s a megabyte).
MAX_BYTES = 250_000
MAX_DEPTH = 20
MAX_NODES = 10_000
# ruamel needs the square of a tag's length.
MAX_TAG = 10_000

_NULLS = {"", "~", "null", "Null", "NULL"}
_TRUE = {"true", "True", "TRUE"}
_FALSE = {"false", "False", "FALSE"}
_OLD_BOOLEANS = {"yes": True, "on": True, "no": False, "off": False}
_QUOTED_BOOLEANS = _OLD_BOOLEANS | {"true": True, "false": False}
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_INT = re.compile(r"[-+]?[0-9][0-9_]{0,40}\Z|0x[0-9a-fA-F]{1,32}\Z|0o[0-7]{1,32}\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]{1,4})?\Z")
_INF = re.compile(r"([-+]?)\.(inf|Inf|INF)\Z")
_NAN = re.compile(r"\.(nan|NaN|NAN)\Z")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was written. ``line`` and ``column`` count from 1."""

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.source, self.line, self.column) if part)


@dataclass(slots=True)
class Tree:
    """Plain values with the place of each key and item; the whole document's is that of ``()``.

    ``old_booleans`` holds where text stands that is a truth value to those who wrote it: ``yes``,
    ``no``, ``on`` and ``off`` as in YAML 1.1, and these and ``true`` and ``false`` in quotes.
    """

    values: Any
    places: PathTable[Place] = field(default_factory=PathTable)
    old_booleans: PathTable[bool] = field(default_factory=PathTable)
    problems: list[Problem] = field(default_factory=list)


class _RefusedError(Exception):
    """The text cannot be read any further; carries the one problem that says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def scalar(text: str) -> Any:
    """The value of an unquoted YAML scalar: null, a truth value, a number, or the text itself."""
    if text in _NULLS:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INT.match(text):
        base = {"0x": 16, "0o": 8}.get(text[:2], 10)
        return int(text.replace("_", ""), base)
    if _FLOAT.match(text):
        return float(text.replace("_", ""))
    if infinite := _INF.match(text):
        return -math.inf if infinite[1] == "-" else math.inf
    return math.nan if _NAN.match(text) else text


def decode(raw: bytes, file: str, size: int | None = None) -> str | Problem:
    """The text of a config file, or the problem with its bytes.

    ``size`` is the whole file's where ``raw`` may only be its beginning.
    """
    if len(raw) > MAX_BYTES:
        known = f"{size:,}" if size else f"more than {MAX_BYTES:,}"
        return Problem(
            "yaml",
            f"{known} bytes are too many for a config: {MAX_BYTES:,} are read at most",
            "is this the data instead of the config?",
            file=file,
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        column = error.start - (before.rfind(b"\n") + 1) + 1
        utf_16 = raw[:2] in _UTF_16
        return Problem(
            "yaml",
            "this is UTF-16" if utf_16 else f"byte 0x{raw[error.start]:02x} is not UTF-8",
            "save the file as UTF-8",
            file=file,
            line=before.count(b"\n") + 1,
            column=column,
        )


def read_tree(text: str, file: str) -> Tree:
    """The values of one YAML document; ``problems`` says what is wrong with the text.

    Where there are problems, ``values`` holds what could be read (None if nothing).
    """
    try:
        _refuse_long_tags(text, file)
        return _Builder(file).document(_events(text))
    except _RefusedError as refused:
        problem = refused.problem
    except MarkedYAMLError as error:
        problem = _syntax_problem(error, text, file)
    except ReaderError as error:
        problem = _letter_problem(error, text, file)
    return Tree(None, problems=[problem])


def _refuse_long_tags(text: str, file: str) -> None:
    for word in text.split():
        if len(word) > MAX_TAG and "!" in word:
            line, column = _line_and_column(text, text.index(word))
            message = f"a word with `!` is longer than {MAX_TAG:,} letters"
            fix = "is this the data instead of the config?"
            raise _RefusedError(Problem("yaml", message, fix, file=file, line=line, column=column))


def _line_and_column(text: str, position: int) -> tuple[int, int]:
    before = text[:position]
    return before.count("\n") + 1, position - before.rfind("\n")


def _events(text: str) -> Iterator[Event]:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 2)
    return iter(yaml.parse(text))


# Two things that ruamel says where a space behind a colon is missing, a line or two further down.
_NO_MAPPING = "mapping values are not allowed here"
_NO_COLON = "could not find expected ':'"
_GLUED = re.compile(r"\s*(?:- +)?[A-Za-z_][\w-]*:(?=[^\s/\\])")


def _syntax_problem(error: MarkedYAMLError, text: str, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    said = error.problem or error.context or "this is not YAML"
    fix = "check indentation, quotes and the space after `:`"
    line = column = None
    if mark is not None:
        line, column = mark.line + 1, mark.column + 1
        start = mark.index - mark.column
        if "\t" in text[start : mark.index + 1]:
            said, fix = "a tab cannot indent YAML", "replace the tab by spaces"
        elif said in (_NO_MAPPING, _NO_COLON) and (glued := _glued(text, mark.line)):
            line, column = glued
            said, fix = "a space is missing behind `:`", "write `key: value`"
        elif said == _NO_MAPPING:
            fix = "put a value that holds `: ` in quotes, or check the indentation"
    return Problem("yaml", said, fix, file=file, line=line, column=column)


def _glued(text: str, number: int) -> tuple[int, int] | None:
    """The line and column of a `key:value` at the end of which reading stopped in line ``number``:
    it stands there or in the line with words before it.
    """
    lines = text.splitlines()[: number + 1]
    with_words = [n for n, line in enumerate(lines) if line.split("#")[0].strip()]
    for n in reversed(with_words[-2:]):
        if found := _GLUED.match(lines[n]):
            return n + 1, found.end()
    return None


def _letter_problem(error: ReaderError, text: str, file: str) -> Problem:
    line, column = _line_and_column(text, error.position)
    message = f"the character U+{ord(text[error.position]):04X} cannot stand in YAML"
    fix = "take it out (is this a text file?)"
    return Problem("yaml", message, fix, file=file, line=line, column=column)


class _Builder:
    """Builds the values of one document from parser events."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.tree = Tree(None)
        self.anchors: dict[str, Any] = {}
        self.nodes = 0

    def document(self, events: Iterator[Event]) -> Tree:
        """The tree of the first document; a second one is refused."""
        documents = 0
        for event in events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._refuse(event, "a second document begins here", "keep one per file")
            elif isinstance(
                event, ScalarEvent | MappingStartEvent | SequenceStartEvent | AliasEvent
            ):
                self.tree.places[()] = self._place(event)
                self.tree.values = self._node(event, events, (), 0)
            elif isinstance(event, StreamEndEvent):
                break
        return self.tree

    def _place(self, event: Event) -> Place:
        return Place(self.file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _problem(self, event: Event, message: str, fix: str, path: Path = ()) -> Problem:
        place = self._place(event)
        key = ".".join(str(part) for part in path)
        return Problem(
            "yaml", message, fix, key=key, file=self.file, line=place.line, column=place.column
        )

    def _refuse(self, event: Event, message: str, fix: str) -> None:
        raise _RefusedError(self._problem(event, message, fix))

    def _count(self, event: Event, number: int = 1) -> None:
        self.nodes += number
        if self.nodes > MAX_NODES:
            self._refuse(
                event,
                f"more than {MAX_NODES:,} values (aliases count as often as they are used)",
                "a config is smaller: is this the data instead?",
            )

    def _node(self, event: Event, events: Iterator[Event], path: Path, depth: int) -> Any:
        self._count(event)
        if depth > MAX_DEPTH:
            self._refuse(event, f"nested more than {MAX_DEPTH} deep", "flatten it")
        if isinstance(event, AliasEvent):
            return self._alias(event)
        tag = getattr(event, "tag", None)
        if tag is not None and str(tag) not in ("", "!"):
            self._refuse(event, f"tag `{tag}` is not read", "write the plain value")
        if isinstance(event, ScalarEvent):
            value = self._scalar(event, path)
        elif isinstance(event, MappingStartEvent):
            value = self._mapping(events, path, depth)
        else:
            value = self._sequence(events, path, depth)
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self.anchors[str(anchor)] = value
        return value

    def _scalar(self, event: ScalarEvent, path: Path) -> Any:
        text = str(event.value)
        quoted = not event.implicit[0]  # or a block of text
        meant = (_QUOTED_BOOLEANS if quoted else _OLD_BOOLEANS).get(text.lower())
        if meant is not None:
            self.tree.old_booleans[path] = meant
        return text if quoted else scalar(text)

    def _alias(self, event: AliasEvent) -> Any:
        name = str(event.anchor)
        if name not in self.anchors:
            self._refuse(event, f"alias `*{name}` names no earlier anchor", f"define `&{name}`")
        self._count(event, _size(self.anchors[name]))
        return _copy(self.anchors[name])

    def _sequence(self, events: Iterator[Event], path: Path, depth: int) -> list[Any]:
        items: list[Any] = []
        for event in events:
            if isinstance(event, SequenceEndEvent):
                break
            here = (*path, len(items))
            self.tree.places[here] = self._place(event)
            items.append(self._node(event, events, here, depth + 1))
        return items

    def _mapping(self, events: Iterator[Event], path: Path, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for event in events:
            if isinstance(event, MappingEndEvent):
                break
            name = self._key(event)
            here = (*path, name)
            if name == "<<":
                merged |= self._merged(event, self._node(next(events), events, here, depth + 1))
                continue
            if name in values:
                first = self.tree.places[here]
                self.tree.problems.append(
                    self._problem(
                        event,
                        f"`{name}` stands here a second time (first in line {first.line})",
                        "keep one of the two",
                        here,
                    )
                )
            else:
                self.tree.places[here] = self._place(event)
            values[name] = self._node(next(events), events, here, depth + 1)
        return merged | values

    def _key(self, event: Event) -> str:
        if not isinstance(event, ScalarEvent):
            self._refuse(event, "a key must be a word", "write `key: value`")
        return str(getattr(event, "value", ""))

    def _merged(self, event: Event, value: Any) -> dict[str, Any]:
        sources = value if isinstance(value, list) else [value]
        merged: dict[str, Any] = {}
        for source in reversed(sources):  # the first of several wins
            if not isinstance(source, dict):
                self._refuse(event, "`<<` takes a mapping", "write `<<: *name_of_a_mapping`")
            merged |= source
        return merged


def _size(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(_size(item) for item in value.values())
    if isinstance(value, list):
        return 1 + sum(_size(item) for item in value)
    return 1


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value
