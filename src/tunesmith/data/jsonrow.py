"""One JSON value as a row, or what is wrong with it in the words of the person who wrote it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tunesmith.data.records import RowError

Row = dict[str, Any] | RowError
"""A row, or why it is none."""

BLANK = " \t\r\n"
"""What JSON takes for blank; nothing else is."""

_SUSPECT_ESCAPE = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")
_NUMBERS = frozenset({int, float, bool, type(None)})
_SURROGATE = re.compile("[\ud800-\udfff]")


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


STRICT = json.JSONDecoder(object_pairs_hook=_strict_object, parse_constant=_strict_constant)
_LENIENT = json.JSONDecoder(object_pairs_hook=_lenient_object, parse_constant=_lenient_constant)


def decode_row(text: str, start: int) -> tuple[Row, int]:
    """The row that starts at ``start``, and where it ends.

    Raises:
        json.JSONDecodeError: it is no JSON.
    """
    try:
        try:
            value, end = STRICT.raw_decode(text, start)
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


def refuse_nul(row: Mapping[str, Any]) -> Row:
    """The row of a table, unless a text in it holds a NUL, which a row of JSON may not either."""
    return _refuse_characters(dict(row)) if _has_nul(row) else dict(row)


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, Mapping):
        return any(_has_nul(name) or _has_nul(part) for name, part in value.items())
    # Most long lists are token ids: they are looked through at the speed of C.
    if isinstance(value, list | tuple) and not _NUMBERS.issuperset(map(type, value)):
        return any(map(_has_nul, value))
    return False


def _find(value: Any, wanted: Callable[[Any], bool], path: str = "") -> Iterator[tuple[str, Any]]:
    """All parts inside ``value`` that are wanted, each with its path (``meta.tags[2]``)."""
    if wanted(value):
        yield path, value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _find(name, wanted, path or "a key")
            yield from _find(part, wanted, f"{path}.{name}" if path else name)
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _find(part, wanted, f"{path}[{number}]")


def explain(text: str, error: json.JSONDecodeError, *, is_cut: bool) -> RowError:
    """What a JSON error means to the person who wrote the file."""
    before, here = text[: error.pos].rstrip(BLANK), text[error.pos :].lstrip(BLANK)
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


def explain_rest(rest: str) -> RowError:
    """What stands behind a row on its line, and does not belong there."""
    if rest.startswith(","):
        fix = "one row a line, with nothing between the rows"
        return RowError("", "a comma stands after the row (extra data)", fix)
    if rest.startswith("{"):
        return RowError("", "two rows on one line (extra data)", "break the line between the rows")
    return RowError("", f"extra data after the row: {rest[:20]!r}", "remove it")
