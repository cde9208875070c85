"""``FormatOptions``: what a format may know of the config."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from tunesmith.config.data import DataSection, DatasetEntry
from tunesmith.config.inline import InlineFormat


def _default_properties() -> dict[str, str]:
    return {"role": "role", "content": "content"}


@dataclass(frozen=True, slots=True)
class FormatOptions:
    """What of the config decides how a row is read, as plain data.

    ``properties`` maps a template's key of a turn to the row's key; ``thinking_key`` is the
    template's of the reasoning. ``roles`` maps the rows' names of roles to the template's, on top
    of the built-in ones. ``style`` is the prompt style of ``alpaca`` and its relatives.
    """

    field: str | None = None
    text_column: str | None = None
    style: str | None = None
    field_messages: str = "messages"
    field_chosen: str = "chosen"
    field_rejected: str = "rejected"
    field_tools: str = "tools"
    properties: Mapping[str, str] = dataclasses.field(default_factory=_default_properties)
    field_system: str = "system"
    training_key: str | None = None
    detail_key: str | None = None
    weight_key: str | None = None
    thinking_key: str = "reasoning_content"
    split_thinking: bool = False
    roles: Mapping[str, str] = dataclasses.field(default_factory=dict)
    drop_system_message: bool = False
    train_on_inputs: bool = False
    step_separator: str = "\n"
    max_completion_length: int | None = None
    train_on_last_step_only: bool = False
    inline: InlineFormat | None = None

    @classmethod
    def of(cls, entry: DatasetEntry, data: DataSection) -> FormatOptions:
        """The options that a data set entry and the section around it ask for."""
        thinking_key = entry.template_thinking_key or "reasoning_content"
        thinking = {thinking_key: entry.field_thinking or "reasoning_content"}
        mapped = entry.message_property_mappings or {}
        properties = _default_properties() | thinking | mapped
        return cls(
            field=entry.field,
            text_column=entry.text_column,
            style=_style(entry),
            field_messages=entry.field_messages,
            field_chosen=entry.field_chosen,
            field_rejected=entry.field_rejected,
            field_tools=entry.field_tools,
            properties=properties,
            field_system=entry.field_system,
            training_key=entry.message_field_training,
            detail_key=entry.message_field_training_detail,
            weight_key=entry.message_field_weight,
            thinking_key=thinking_key,
            split_thinking=entry.split_thinking,
            roles={name: role for role, names in (entry.roles or {}).items() for name in names},
            drop_system_message=entry.drop_system_message,
            train_on_inputs=data.train_on_inputs,
            step_separator=entry.step_separator,
            max_completion_length=entry.max_completion_length,
            train_on_last_step_only=entry.train_on_last_step_only,
            inline=entry.type if isinstance(entry.type, InlineFormat) else None,
        )


def _style(entry: DatasetEntry) -> str | None:
    """The style of ``type: name:style``, else that of ``conversation``."""
    named = entry.type if isinstance(entry.type, str) else ""
    return named.partition(":")[2] or entry.conversation
