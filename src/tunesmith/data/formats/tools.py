"""The tools of a conversation: what it declares and what its turns call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tunesmith.data.formats.fields import kind_of, without_nulls
from tunesmith.data.records import RowError

_TOOLS = 'want a list: [{"type": "function", "function": {"name": ..., "parameters": {...}}}]'
_CALLS = 'want a list: [{"type": "function", "function": {"name": ..., "arguments": {...}}}]'


def read_tools(value: Any, name: str) -> tuple[Mapping[str, Any], ...]:
    """The declared tools; the list, or a tool's parameters, may be written as JSON in a text.

    Raises:
        RowError: it is no list of objects.
    """
    if value is None or value == "":
        return ()
    tools = decode(value, name)
    if not isinstance(tools, list):
        raise RowError(name, f"is {kind_of(tools)}, not a list of tools", _TOOLS)
    read = []
    for number, tool in enumerate(tools):
        if not isinstance(tool, Mapping):
            raise RowError(f"{name}[{number}]", f"is {kind_of(tool)}, not an object", _TOOLS)
        read.append(_decoded_inside(without_nulls(tool), "parameters", f"{name}[{number}]"))
    return tuple(read)


def decode_calls(value: Any, place: str) -> list[dict[str, Any]]:
    """The tool calls of a turn, their arguments as objects.

    Raises:
        RowError: they are no list of objects, or arguments in a text are no JSON.
    """
    calls = decode(value, place)
    if not isinstance(calls, list):
        raise RowError(place, f"is {kind_of(calls)}, not a list of calls", _CALLS)
    read = []
    for number, call in enumerate(calls):
        if not isinstance(call, Mapping):
            raise RowError(f"{place}[{number}]", f"is {kind_of(call)}, not an object", _CALLS)
        read.append(_decoded_inside(call, "arguments", f"{place}[{number}]"))
    return read


def decode(value: Any, place: str) -> Any:
    """The value, parsed where it is JSON in a text.

    Raises:
        RowError: the text is no JSON.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise RowError(place, f"is a text and no JSON: {error}", "correct the JSON") from error


def _decoded_inside(outer: Mapping[str, Any], key: str, place: str) -> dict[str, Any]:
    """The tool or call with ``function.<key>`` (or ``<key>``, without a function) parsed."""
    inner = outer.get("function")
    if isinstance(inner, Mapping):
        return {**outer, "function": _decoded_inside(inner, key, f"{place}.function")}
    if key not in outer:
        return dict(outer)
    return {**outer, key: decode(outer[key], f"{place}.{key}")}
