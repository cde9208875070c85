"""``chat_template``: turns for a chat template, in OpenAI's or ShareGPT's keys or any others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from tunesmith.data.formats.fields import kind_of, name_list, need, without_nulls
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.formats.tools import decode_calls, read_tools
from tunesmith.data.records import Conversation, Message, RowError
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
_SHAPE = 'want a list of turns: [{"role": "user", "content": "..."}, ...]'
_SHAREGPT = "message_property_mappings: {role: from, content: value}"


def read_chat(row: Mapping[str, Any], options: FormatOptions) -> Conversation:
    """The row's turns with the template's keys and roles, and its tools.

    Raises:
        RowError: the turns or tools are not as they should be; says which turn (from 1).
    """
    name = options.field_messages
    turns = _turns(_needed_turns(row, options), name)
    roles = {**ROLES, **{role: role for role in options.roles.values()}, **options.roles}
    messages = []
    for number, turn in enumerate(turns):
        try:
            messages.append(_read_turn(turn, f"{name}[{number}]", roles, options))
        except RowError as error:
            message = f"turn {number + 1}: {error.message}"
            raise RowError(error.field, message, error.fix) from error
    if options.drop_system_message:
        messages = [message for message in messages if message.role != "system"]
    if all(message.role in _INSTRUCTING for message in messages):
        message = (
            "holds system turns alone" if messages else "holds system turns alone, all dropped"
        )
        raise RowError(name, message, "give the row a user and an assistant turn, or remove it")
    return Conversation(
        tuple(messages), read_tools(row.get(options.field_tools), options.field_tools)
    )


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
    train = _training_wish(turn, place, options.training_key)
    taken = {*options.properties.values(), options.training_key}
    fields = {key: turn[name] for key, name in options.properties.items() if name in turn}
    taken.update(options.properties)  # a key of the template comes from the mapped key alone
    fields |= {name: part for name, part in turn.items() if name not in taken}
    fields["role"] = _role(fields, turn, place, roles, options)
    if "tool_calls" in fields:
        fields["tool_calls"] = decode_calls(fields["tool_calls"], f"{place}.tool_calls")
    if "content" in fields:
        fields["content"] = _content(fields["content"], f"{place}.{options.properties['content']}")
    elif not fields.get("tool_calls"):
        raise _missing(turn, place, options.properties["content"], options)
    return Message(fields, train)


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


def _content(value: Any, place: str) -> str:
    """The turn's text; a list of text parts is joined."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise RowError(place, f"is {kind_of(value)}, want text", "write it as a text in quotes")
    return "".join(_part(part, f"{place}[{number}]") for number, part in enumerate(value))


def _part(part: Any, place: str) -> str:
    """The text of one content part."""
    fix = 'want {"type": "text", "text": "..."}'
    if not isinstance(part, Mapping):
        raise RowError(place, f"the part is {kind_of(part)}, not an object", fix)
    if part.get("type") != "text":
        name = part.get("type", "without a type")
        raise RowError(f"{place}.type", f"the part's type is {name!r}; only text can be read", fix)
    if weighted := [name for name in ("train", "weight", "loss_weight") if name in part]:
        fix = "make each part a turn of its own, or use `message_field_training`"
        raise RowError(place, f"parts cannot have their own `{weighted[0]}`", fix)
    text = part.get("text", part.get("content", part.get("value")))
    if not isinstance(text, str):
        raise RowError(f"{place}.text", f"is {kind_of(text)}, want text", fix)
    return text


def _training_wish(turn: Mapping[str, Any], place: str, key: str | None) -> bool | None:
    wish = turn.get(key) if key else None
    if wish is None or isinstance(wish, bool):
        return wish
    raise RowError(f"{place}.{key}", f"is {kind_of(wish)}, want true or false", "correct it")
