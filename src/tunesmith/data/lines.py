"""Rows of json and jsonl files, each with the line where it starts.

A file that begins with ``[`` is one array, whatever its name; everything else is one object a line.
What is wrong with one row is a ``RowError`` in that row's place, so that all of them can be said at
once; what is wrong with the whole file is a ``DataError``.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tunesmith.data.files import CHUNK, Line, read_chunks, read_lines
from tunesmith.data.records import RowError
from tunesmith.errors import DataError

Row = dict[str, Any] | RowError
"""A row, or why it is none."""

_BLANK = " \t\r\n"
_SUSPECT_ESCAPE = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_json(path: Path) -> Iterator[tuple[int, Row]]:
    """The rows of a json or jsonl file in order, each with its line (from 1).

    Raises:
        DataError: the file is no json, is cut off, is in another encoding, or holds no rows.
    """
    first = next((line for line in read_lines(path) if line.data.strip()), None)
    if first is None:
        raise DataError(
            f"no rows in {path}", hint="point `path` to a file with rows", where=str(path)
        )
    if first.data.lstrip().startswith(b"["):
        yield from _read_array(path)
    else:
        _refuse_one_object(path)
        yield from _read_objects(path)


def _read_objects(path: Path) -> Iterator[tuple[int, Row]]:
    for line in read_lines(path):
        if line.data.strip():
            yield line.number, _parse_line(line)


def _parse_line(line: Line) -> Row:
    """The row of one line, or what is wrong with it."""
    try:
        text = line.data.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = line.data[error.start]
        return RowError(
            "",
            f"is not UTF-8 (byte 0x{byte:02X} at offset {line.offset + error.start} of the file)",
            "convert the file to UTF-8, from latin1 say: iconv -f latin1 -t UTF-8",
        )
    start = len(text) - len(text.lstrip(_BLANK))
    try:
        row, end = _decode(text, start)
    except json.JSONDecodeError as error:
        return _explain(text, error, is_cut=line.is_open)
    rest = text[end:].strip(_BLANK)
    return _explain_rest(rest) if rest else row


def _read_array(path: Path) -> Iterator[tuple[int, Row]]:
    window = _Window(path)
    window.take()  # the opening bracket
    if window.peek() == "]":
        raise DataError(f"no rows in {path}", hint="the list is empty", where=str(path))
    while True:
        window.peek()
        yield window.line, window.decode()
        separator = window.take()
        if separator == "]":
            break
        if separator != ",":
            raise window.error("a comma or `]` is missing after a row")
    if window.peek():
        raise window.error("something stands after the list's end")


class _Window:
    """The text of a file from where its reader stands, read as far as it is needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.line = 1
        self._chunks = read_chunks(path)
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self._line_start = 0
        self._read_bytes = 0

    def peek(self) -> str:
        """The next character that is no blank, or "" at the end of the file."""
        while True:
            start = self._at
            while start < len(self._text) and self._text[start] in _BLANK:
                start += 1
            self._advance(start)
            if start < len(self._text):
                return self._text[start]
            if not self._more(1):
                return ""

    def take(self) -> str:
        """The same character, and the window moves past it."""
        symbol = self.peek()
        self._advance(self._at + len(symbol))
        return symbol

    def decode(self) -> Row:
        """The value that starts here, as a row; the window moves past it."""
        while True:
            try:
                row, end = _decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # Not wrong yet, when the text that was read ends inside of the value.
                near_end = error.pos >= len(self._text) - 16 or "Unterminated" in error.msg
                reason, length = _explain(self._text, error, is_cut=near_end), error.pos - self._at
                if near_end and self._more(len(self._text) - self._at):
                    continue
                self._advance(self._at + length)
                raise self.error(reason.message, reason.fix) from error
            self._advance(end)
            return row

    def error(self, message: str, fix: str = "correct the file there") -> DataError:
        """The error to raise for something wrong where the window stands."""
        column = self._at - self._line_start + 1
        where = f"{self.path}:{self.line}:{column}"
        return DataError(f"{where}: {message}", hint=fix, where=where)

    def _advance(self, end: int) -> None:
        lines = self._text.count("\n", self._at, end)
        if lines:
            self.line += lines
            self._line_start = self._text.rfind("\n", self._at, end) + 1
        self._at = end

    def _more(self, wanted: int) -> bool:
        """Whether more text could be read: at least ``wanted`` characters, if there are any."""
        pieces = [self._text[self._at :]]
        self._line_start -= self._at
        self._at = 0
        n_read = 0
        while n_read < max(wanted, CHUNK):
            chunk = next(self._chunks, b"")
            try:
                pieces.append(self._decoder.decode(chunk, final=not chunk))
            except UnicodeDecodeError as error:
                offset = self._read_bytes + error.start
                raise self.error(
                    f"is not UTF-8 (near byte {offset} of the file)",
                    "convert the file to UTF-8: iconv -f latin1 -t UTF-8",
                ) from error
            self._read_bytes += len(chunk)
            n_read += len(chunk)
            if not chunk:
                break
        self._text = "".join(pieces)
        return n_read > 0


class _RefusedValue(ValueError):
    """JSON that parses and must not be used: a key twice, a number that is none."""


class _Marker:
    """Stands in a leniently parsed row for what made the strict parser refuse it."""

    def __init__(self, message: str, fix: str) -> None:
        self.message = message
        self.fix = fix


def _strict_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _RefusedValue
    return found


def _strict_constant(name: str) -> Any:
    raise _RefusedValue(name)


def _lenient_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        twice = _Marker("stands twice in one object", "keep one of the two")
        found[name] = twice if name in found else value
    return found


def _lenient_constant(name: str) -> Any:
    return _Marker(f"is {name}, which JSON does not have", "write null or a number")


_STRICT = json.JSONDecoder(object_pairs_hook=_strict_object, parse_constant=_strict_constant)
_LENIENT = json.JSONDecoder(object_pairs_hook=_lenient_object, parse_constant=_lenient_constant)


def _decode(text: str, start: int) -> tuple[Row, int]:
    """The row that starts at ``start``, and where it ends.

    Raises:
        json.JSONDecodeError: it is no JSON.
    """
    try:
        try:
            value, end = _STRICT.raw_decode(text, start)
        except _RefusedValue:
            value, end = _LENIENT.raw_decode(text, start)
            return _refuse_marked(value), end
        except json.JSONDecodeError:
            raise
        except ValueError as error:  # an integer of more digits than Python converts
            raise json.JSONDecodeError(str(error).split(";")[0], text, start) from error
        if not isinstance(value, dict):
            name = {list: "a list", str: "a text", type(None): "null"}.get(type(value), "a number")
            fix = 'write the row as an object, {"field": "value", ...}'
            return RowError("", f"the row is {name}, not an object", fix), end
        if _SUSPECT_ESCAPE.search(text, start, end):
            return _refuse_characters(value), end
    except RecursionError:
        raise json.JSONDecodeError("Nested too deeply", text, start) from None
    return value, end


def _refuse_marked(value: Any) -> RowError:
    path, marker = next(_find(value, lambda part: isinstance(part, _Marker)))
    return RowError(path, marker.message, marker.fix)


def _refuse_characters(row: dict[str, Any]) -> Row:
    """The row, unless a text in it holds a character that is no text."""
    for path, text in _find(row, lambda part: isinstance(part, str)):
        if broken := _SURROGATE.search(text):
            code = f"U+{ord(broken.group()):04X}"
            return RowError(
                path, f"holds half of a character ({code})", "write the character whole"
            )
        if "\0" in text:
            return RowError(path, "holds a NUL character (U+0000)", "remove it from the text")
    return row


def _find(value: Any, wanted: Callable[[Any], bool], path: str = "") -> Iterator[tuple[str, Any]]:
    """All parts inside ``value`` that are wanted, each with its path (``meta.tags[2]``)."""
    if wanted(value):
        yield path, value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _find(name, wanted, path or "a key")
            yield from _find(part, wanted, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _find(part, wanted, f"{path}[{number}]")


def _explain(text: str, error: json.JSONDecodeError, *, is_cut: bool) -> RowError:
    """What a JSON error means to the person who wrote the file."""
    before, here = text[: error.pos].rstrip(_BLANK), text[error.pos :].lstrip(_BLANK)
    if error.msg == "Nested too deeply":
        return RowError("", "is nested too deeply", "flatten the row, or leave the column out")
    if "control character" in error.msg:
        code = f"U+{ord(text[error.pos]):04X}"
        fix = "escape it (a tab is \\t, a line break \\n)"
        return RowError("", f"a raw control character ({code}) stands inside a text", fix)
    if here.startswith("'"):
        fix = "use double quotes: this is a Python literal, json.dumps writes it as JSON"
        return RowError("", "is no JSON: single quotes", fix)
    if (before.endswith(",") and here[:1] in "}]" and here) or "trailing comma" in error.msg:
        return RowError("", "is no JSON: a comma before the closing bracket", "remove the comma")
    if not here or "Unterminated" in error.msg:
        if is_cut:
            fix = "copy or download the file again, or delete the last line"
            return RowError("", "is not complete: the file looks cut off", fix)
        return RowError("", "is not complete: a bracket or quote is not closed", "close it")
    column = error.pos - text.rfind("\n", 0, error.pos)
    return RowError("", f"is no JSON: {error.msg} (column {column})", "correct the row")


def _explain_rest(rest: str) -> RowError:
    if rest.startswith(","):
        fix = "one row a line, with nothing between the rows"
        return RowError("", "a comma stands after the row (extra data)", fix)
    if rest.startswith("{"):
        return RowError("", "two rows on one line (extra data)", "break the line between the rows")
    return RowError("", f"extra data after the row: {rest[:20]!r}", "remove it")


def _refuse_one_object(path: Path) -> None:
    """Raise where the file is one object over several lines, which is not a list of rows."""
    starts = [line.data for line in _first_lines(path, 2)]
    if len(starts) < 2 or starts[1].lstrip().startswith(b"{"):
        return
    try:
        _STRICT.decode(starts[0].decode("utf-8"))
    except json.JSONDecodeError as error:
        if starts[0][error.pos :].strip():
            return  # wrong before its end: a broken row, which is told as one
    except (ValueError, RecursionError):
        return
    else:
        return
    raise DataError(
        f"{path} is one JSON object over several lines, not rows",
        hint="keep only the list of rows inside of it (jq .FIELD), or write one object a line",
        where=f"{path}:1",
    )


def _first_lines(path: Path, count: int) -> Iterator[Line]:
    for line in read_lines(path):
        if count == 0:
            return
        if line.data.strip():
            count -= 1
            yield line
