"""Rows of json and jsonl files, each with the line where it starts.

A file that begins with ``[`` is one array, whatever its name; everything else is one object a line.
What is wrong with one row is a ``RowError`` in that row's place, so that all of them can be said at
once; what is wrong with the whole file is a ``DataError``.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path

from tunesmith.data.files import CHUNK, Line, read_chunks, read_lines
from tunesmith.data.jsonrow import BLANK, STRICT, Row, decode_row, explain, explain_rest
from tunesmith.data.records import RowError
from tunesmith.errors import DataError


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
    start = len(text) - len(text.lstrip(BLANK))
    try:
        row, end = decode_row(text, start)
    except json.JSONDecodeError as error:
        return explain(text, error, is_cut=line.is_open)
    rest = text[end:].strip(BLANK)
    return explain_rest(rest) if rest else row


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
            while start < len(self._text) and self._text[start] in BLANK:
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
                row, end = decode_row(self._text, self._at)
            except json.JSONDecodeError as error:
                # Not wrong yet, when the text that was read ends inside of the value.
                near_end = error.pos >= len(self._text) - 16 or "Unterminated" in error.msg
                reason, length = explain(self._text, error, is_cut=near_end), error.pos - self._at
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


def _refuse_one_object(path: Path) -> None:
    """Raise where the file is one object over several lines, which is not a list of rows."""
    starts = [line.data for line in _first_lines(path, 2)]
    if len(starts) < 2 or starts[1].lstrip().startswith(b"{"):
        return
    try:
        STRICT.decode(starts[0].decode("utf-8"))
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
