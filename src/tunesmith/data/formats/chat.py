"""``chat_template``: turns for a chat template, in OpenAI's or ShareGPT's keys or any others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from tunesmith.data.formats.fields import kind_of, name_list, need, optional_text, without_nulls
from tunesmith.data.formats.media import refuse_columns
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.formats.parts import as_flag, as_weight, join_parts, read_detail
from tunesmith.data.formats.thinking import split_thinking
from tunesmith.data.formats.tools import decode, decode_calls, read_tools
from tunesmith.data.records import Conversation, FieldSpan, Message, RowError
from tunesmith.registry import nearest, plain

ROLES: Mapping[str, str] = MappingProxyType(
    {
        "user": "user",
        "human": "user",
        "assistant": "assistant",
        "gpt": "assistant",
        "system": "system",
        "developer": "developer",
        "tool": "tool",
    }
)
"""A row's name of a role -> the template's, unless the entry's ``roles`` say otherwise."""

_INSTRUCTING = frozenset({"system", "developer"})
_VARIABLES = "chat_template_kwargs"
_RESERVED = frozenset({"messages", "tools", "add_generation_prompt"})
_SHAPE = 'want a list of turns: [{"role": "user", "content": "..."}, ...]'
_SHAREGPT = "message_property_mappings: {role: from, content: value}"


def read_chat(row: Mapping[str, Any], options: FormatOptions) -> Conversation:
    """The row's turns with the template's keys and roles, and its tools.

    Raises:
        RowError: the turns or tools are not as they should be; says which turn (from 1).
    """
    refuse_columns(row)
    name = options.field_messages
    turns = _turns(_needed_turns(row, options), name)
    roles = {**ROLES, **{role: role for role in options.roles.values()}, **options.roles}
    messages = _system_column(row, turns, roles, options)
    for number, turn in enumerate(turns):
        try:
            messages.append(_read_turn(turn, f"{name}[{number}]", roles, options))
        except RowError as error:
            message = f"turn {number + 1}: {error.message}"
            raise RowError(error.field, message, error.fix) from error
    if options.drop_system_message:
        messages = [message for message in messages if message.role not in _INSTRUCTING]
    if all(message.role in _INSTRUCTING for message in messages):
        message = (
            "holds system turns alone" if messages else "holds system turns alone, all dropped"
        )
        raise RowError(name, message, "give the row a user and an assistant turn, or remove it")
    tools = read_tools(row.get(options.field_tools), options.field_tools)
    return Conversation(tuple(messages), tools, _variables(row))


def _system_column(
    row: Mapping[str, Any],
    turns: Sequence[Any],
    roles: Mapping[str, str],
    options: FormatOptions,
) -> list[Message]:
    """The row's own system text as a turn, unless its turns begin with one."""
    text = optional_text(row, options.field_system)
    first = turns[0].get(options.properties["role"]) if isinstance(turns[0], Mapping) else None
    if not text or roles.get(str(first)) in _INSTRUCTING:
        return []
    return [Message({"role": "system", "content": text})]


def _variables(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row's own variables for the template."""
    value = decode(row.get(_VARIABLES) or {}, _VARIABLES)
    if not isinstance(value, Mapping):
        raise RowError(_VARIABLES, f"is {kind_of(value)}, not an object", "want {name: value}")
    if taken := sorted(_RESERVED & set(value)):
        message = f"`{taken[0]}` cannot be set here"
        raise RowError(f"{_VARIABLES}.{taken[0]}", message, "rename the template's variable")
    return value


def _needed_turns(row: Mapping[str, Any], options: FormatOptions) -> Any:
    name = options.field_messages
    for other in ("messages", "conversations", "conversation"):
        if name not in row and other in row:
            message = f"the row has no field `{name}`; it has {name_list(row)}"
            raise RowError(name, message, f"set `field_messages: {other}`")
    return need(row, name, "field_messages")


def _turns(value: Any, name: str) -> Sequence[Any]:
    """The list of turns, which may be written as JSON in a text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise RowError(name, f"is a text and no JSON: {error}", _SHAPE) from error
    if not isinstance(value, list):
        raise RowError(name, f"is {kind_of(value)}, not a list of turns", _SHAPE)
    if not value:
        raise RowError(name, "is an empty list", "remove the row: it says nothing")
    return value


def _read_turn(turn: Any, place: str, roles: Mapping[str, str], options: FormatOptions) -> Message:
    """One turn in the template's keys."""
    if not isinstance(turn, Mapping):
        raise RowError(place, f"is {kind_of(turn)}, not an object", _SHAPE)
    turn = without_nulls(turn)
    taken = {
        *(*options.properties.values(), options.training_key),
        *(options.detail_key, options.weight_key),
    }
    fields = {key: turn[name] for key, name in options.properties.items() if name in turn}
    taken.update(options.properties)  # a key of the template comes from the mapped key alone
    fields |= {name: part for name, part in turn.items() if name not in taken}
    fields["role"] = _role(fields, turn, place, roles, options)
    spans = _join_lists(fields, place, options)
    if options.detail_key is not None and options.detail_key in turn:
        spans += _detail(turn[options.detail_key], fields, spans, f"{place}.{options.detail_key}")
    if options.split_thinking and fields["role"] == "assistant":
        fields, spans = split_thinking(fields, spans, options.thinking_key)
    if "tool_calls" in fields:
        fields["tool_calls"] = decode_calls(fields["tool_calls"], f"{place}.tool_calls")
    if "content" not in fields and not fields.get("tool_calls"):
        raise _missing(turn, place, options.properties["content"], options)
    train, weight = _wish(turn, place, options)
    return Message(fields, train, tuple(spans), weight)


def _role(
    fields: Mapping[str, Any],
    turn: Mapping[str, Any],
    place: str,
    roles: Mapping[str, str],
    options: FormatOptions,
) -> str:
    key = options.properties["role"]
    if "role" not in fields:
        raise _missing(turn, place, key, options)
    role = fields["role"]
    if isinstance(role, str) and role in roles:
        return roles[role]
    if not isinstance(role, str):
        raise RowError(f"{place}.{key}", f"is {kind_of(role)}, want text", "write the role's name")
    close = next((name for name in roles if plain(name) == plain(role)), nearest(role, roles))
    mapping = f"correct it, or map it: `roles: {{assistant: [{role.strip()}]}}`"
    known = name_list(sorted(roles))
    raise RowError(
        f"{place}.{key}",
        f"the role {role!r} is unknown; known are {known}",
        f"did you mean `{close}`?" if close else mapping,
    )


def _missing(turn: Mapping[str, Any], place: str, key: str, options: FormatOptions) -> RowError:
    """The error for a turn without a role or without content."""
    default = key == options.properties.get(key)
    if default and {"from", "value"} <= set(turn):
        fix = f"set `{_SHAREGPT}`"
    else:
        fix = f"give the turn its `{key}`, or name the key in `message_property_mappings`"
    has = f"it has {name_list(turn)}" if turn else "it is empty"
    return RowError(f"{place}.{key}", f"the turn has no `{key}` (or null); {has}", fix)


def _join_lists(fields: dict[str, Any], place: str, options: FormatOptions) -> list[FieldSpan]:
    """The spans of texts that are given in parts, which become whole texts in ``fields``."""
    spans: list[FieldSpan] = []
    calls: list[Any] = []
    for key in ("content", options.thinking_key):
        value = fields.get(key)
        name = f"{place}.{options.properties.get(key, key)}"
        if isinstance(value, list):
            joined = join_parts(value, name, key, options.thinking_key)
            fields |= joined.texts
            spans += joined.spans
            calls += joined.calls
        elif value is not None and not isinstance(value, str):
            raise RowError(name, f"is {kind_of(value)}, want text", "write it as a text in quotes")
    if calls:
        fields["tool_calls"] = [*fields.get("tool_calls", ()), *calls]
    return spans


def _detail(
    value: Any, fields: Mapping[str, Any], spans: Sequence[FieldSpan], place: str
) -> list[FieldSpan]:
    """The spans that the row gives beside the content."""
    if any(span.field == "content" for span in spans):
        message = "the content's parts say what trains, and so do these spans"
        raise RowError(place, message, "keep one of both")
    content = fields.get("content")
    if not isinstance(content, str):
        raise RowError(place, "gives spans of a content that is missing", "take them out")
    return read_detail(value, content, place)


def _wish(turn: Mapping[str, Any], place: str, options: FormatOptions) -> tuple[bool | None, float]:
    """The row's own wish whether the turn trains, and the turn's weight.

    A weight is a wish too: 0 trains nothing, and any other one trains whatever the role is.
    """
    train, weight = None, 1.0
    if options.weight_key is not None and options.weight_key in turn:
        weight = as_weight(turn[options.weight_key], f"{place}.{options.weight_key}")
        train = weight > 0
    if options.training_key is not None and options.training_key in turn:
        train = as_flag(turn[options.training_key], f"{place}.{options.training_key}")
    return train, weight
