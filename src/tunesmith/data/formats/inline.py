"""A ``type`` that is a mapping: which fields, and how they are set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.config.inline import InlineFormat
from tunesmith.data.formats.fields import as_text, need, need_text, optional_text
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.formats.prompted import prompt_and_answer
from tunesmith.data.records import Segments
from tunesmith.errors import ConfigError

_FORMAT = "{instruction} {input} "
_NO_INPUT_FORMAT = "{instruction} "


def read_inline(row: Mapping[str, Any], options: FormatOptions) -> Segments:
    """System text and prompt as the mapping sets them, and the answer; the answer trains.

    ``format`` is used where the row has an input, ``no_input_format`` where it has none. The row's
    own system text (``field_system``, or a column ``system``) stands before ``system_prompt``.

    Raises:
        RowError: a field is missing or no text.
        ConfigError: a format names something that it is not given.
    """
    inline = options.inline
    if inline is None:
        raise ConfigError(
            "`type: inline` is no data set type by itself",
            hint="write `type` as a mapping of fields",
        )
    instruction = need_text(row, inline.field_instruction, "type.field_instruction")
    given = optional_text(row, inline.field_input)
    answer = need_text(row, inline.field_output, "type.field_output")
    system = _system(row, inline)
    if given:
        wording, key = inline.format or _FORMAT, "format"
    else:
        wording, key = inline.no_input_format or _NO_INPUT_FORMAT, "no_input_format"
    prompt = fill(wording, key, {"instruction": instruction, "input": given})
    if system:
        prompt = fill(inline.system_format, "system_format", {"system": system}) + prompt
    return prompt_and_answer(prompt, answer, train_on_inputs=options.train_on_inputs)


def _system(row: Mapping[str, Any], inline: InlineFormat) -> str:
    name = inline.field_system or "system"
    if row.get(name) is not None:
        return as_text(row[name], name)
    if inline.field_system and not inline.system_prompt:
        need(row, name, "type.field_system")
    return inline.system_prompt


def fill(wording: str, key: str, values: Mapping[str, str]) -> str:
    """The wording with the values in their places; ``key`` is the config's name for it.

    Raises:
        ConfigError: it names something that it is not given.
    """
    try:
        return wording.format(**values)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        names = " and ".join(f"{{{name}}}" for name in values)
        raise ConfigError(
            f"`type.{key}` cannot be filled: {error!r}",
            hint=f"only {names} may stand in it; write a brace of your own twice: {{{{ }}}}",
        ) from error
