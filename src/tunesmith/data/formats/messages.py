"""``messages``: turns in whatever usual keys they have, for a chat template."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from tunesmith.data.formats.chat import read_chat
from tunesmith.data.formats.fields import need_list
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.records import Conversation

_ROLES: Final = ("role", "from")
_CONTENTS: Final = ("content", "value", "text")
_WISHES: Final = ("train", "weight")


def read_messages(row: Mapping[str, Any], options: FormatOptions) -> Conversation:
    """The turns of ``field_messages``; the first one tells which keys all of them have.

    A turn's text stands in ``content``, ``value`` or ``text``, its role in ``role`` or ``from``,
    and ``train`` or ``weight`` says whether it trains, unless the entry names other keys.

    Raises:
        RowError: a turn is not as it should be.
    """
    first = need_list(row, options.field_messages, "field_messages")[0]
    keys = set(first) if isinstance(first, Mapping) else set()
    properties = {
        **options.properties,
        "role": _found(options.properties["role"], _ROLES, keys),
        "content": _found(options.properties["content"], _CONTENTS, keys),
    }
    wish = options.training_key
    if wish is None and options.weight_key is None:
        wish = next((name for name in _WISHES if name in keys), None)
    asked = dataclasses.replace(
        options,
        properties=properties,
        training_key=None if wish == "weight" else wish,
        weight_key="weight" if wish == "weight" else options.weight_key,
        roles={"ipython": "tool", **options.roles},
    )
    return read_chat(row, asked)


def _found(named: str, usual: tuple[str, ...], keys: set[str]) -> str:
    """The key that the entry names, or the usual one that the turns have."""
    if named not in usual or named in keys:
        return named
    return next((name for name in usual if name in keys), named)
