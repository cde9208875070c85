"""``InlineFormat``: a data set's ``type`` as a mapping of fields and of how they are set."""

from __future__ import annotations

from tunesmith.config.section import Section, key


class InlineFormat(Section):
    """A data set's ``type`` written out as a mapping."""

    may_be_blank = frozenset(
        {
            *("system_prompt", "system_format", "format", "no_input_format"),
            *("prompt_format", "chosen_format", "rejected_format", "completion_format"),
        }
    )

    system_prompt: str = key(
        "", "System text of every row.", readers="tunesmith.data.formats.inline"
    )
    system_format: str = key(
        "{system}", "How the system text is set.", readers="tunesmith.data.formats.inline"
    )
    field_system: str | None = key(
        None, "Field of the row's own system text.", readers="tunesmith.data.formats.inline"
    )
    field_instruction: str = key(
        "instruction", "Field of the instruction.", readers="tunesmith.data.formats.inline"
    )
    field_input: str = key("input", "Field of the input.", readers="tunesmith.data.formats.inline")
    field_output: str = key(
        "output", "Field of the answer.", readers="tunesmith.data.formats.inline"
    )
    format: str | None = key(
        None, "The prompt where the row has an input.", readers="tunesmith.data.formats.inline"
    )
    no_input_format: str | None = key(
        None, "The prompt where it has none.", readers="tunesmith.data.formats.inline"
    )
    field_prompt: str | None = key(
        None,
        "Preference rows: field of the prompt (`prompt`).",
        readers="tunesmith.data.formats.pairs",
    )
    field_chosen: str | None = key(
        None,
        "Field of the better answer (`chosen`).",
        readers="tunesmith.data.formats.pairs",
    )
    field_rejected: str | None = key(
        None,
        "Field of the worse answer (`rejected`).",
        readers="tunesmith.data.formats.pairs",
    )
    field_completion: str | None = key(
        None,
        "Rows that are judged: field of the answer (`completion`).",
        readers="tunesmith.data.formats.judged",
    )
    field_label: str | None = key(
        None,
        "Field that says whether it is a good one (`label`).",
        readers="tunesmith.data.formats.judged",
    )
    prompt_format: str | None = key(
        None,
        "How the prompt is set: `{prompt}`, and `{system}` if it has one.",
        readers="tunesmith.data.formats.pairs",
    )
    chosen_format: str | None = key(
        None,
        "How the better answer is set (`{chosen}`).",
        readers="tunesmith.data.formats.pairs",
    )
    rejected_format: str | None = key(
        None,
        "How the worse answer is set (`{rejected}`).",
        readers="tunesmith.data.formats.pairs",
    )
    completion_format: str | None = key(
        None,
        "How the judged answer is set (`{completion}`).",
        readers="tunesmith.data.formats.judged",
    )
