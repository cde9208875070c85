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


def read_messages(row: Mapping[str, Any], options: FormatOptions) -> Conversation:
    """The turns of ``field_messages``; the first one tells where all have their role and text.

    A turn's text stands in ``content``, ``value`` or ``text``, its role in ``role`` or ``from``,
    and ``train`` or ``weight`` of any turn says whether it trains, unless the entry names other
    keys; of a turn with both, ``train`` says whether and ``weight`` how much.

    Raises:
        RowError: a turn is not as it should be.
    """
    turns = need_list(row, options.field_messages, "field_messages")
    keys = set(turns[0]) if isinstance(turns[0], Mapping) else set()
    properties = {
        **options.properties,
        "role": _found(options.properties["role"], _ROLES, keys),
        "content": _found(options.properties["content"], _CONTENTS, keys),
    }
    training_key, weight_key = options.training_key, options.weight_key
    if training_key is None and weight_key is None:
        anywhere = {name for turn in turns if isinstance(turn, Mapping) for name in turn}
        training_key = "train" if "train" in anywhere else None
        weight_key = "weight" if "weight" in anywhere else None
    asked = dataclasses.replace(
        options,
        properties=properties,
        training_key=training_key,
        weight_key=weight_key,
        roles={"ipython": "tool", **options.roles},
    )
    return read_chat(row, asked)


def _found(named: str, usual: tuple[str, ...], keys: set[str]) -> str:
    """The key that the entry names, or the usual one that the turns have."""
    if named not in usual or named in keys:
        return named
    return next((name for name in usual if name in keys), named)
