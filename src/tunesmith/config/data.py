"""Section ``data``: the data set entries, splits, preparation, loading."""

from __future__ import annotations

from typing import Literal

from tunesmith.config.section import Section, key
from tunesmith.config.when import reads_prompts

TrainOn = Literal["turn", "all", "last", "none"]


class InlineFormat(Section):
    """A data set's ``type`` written out as a mapping."""

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


class DatasetEntry(Section):
    """One data set: where it is, how its rows are read, what of them trains."""

    path: str = key(
        ...,
        "A hub id, file, folder or glob.",
        readers="tunesmith.data.build tunesmith.data.sources tunesmith.runs.estimate "
        "tunesmith.runs.finish",
    )
    type: str | InlineFormat | None = key(
        None,
        "The format's name, or a mapping of fields and formats; `chat_template` when left out.",
        readers="tunesmith.data.formats.options tunesmith.runs.prepare",
    )
    name: str | None = key(None, "The hub data set's configuration.", readers="tunesmith.data.hub")
    split: str | None = key(
        None, "Which split, slices allowed (`train[:10%]`).", readers="tunesmith.data.sources"
    )
    revision: str | None = key(
        None, "Commit, branch or tag of the hub repository.", readers="tunesmith.data.hub"
    )
    data_files: str | list[str] | None = key(
        None, "Files inside `path`.", readers="tunesmith.data.sources"
    )
    ds_type: Literal["json", "jsonl", "csv", "parquet", "arrow", "text"] | None = key(
        None, "The files' format, when their names do not say.", readers="tunesmith.data.sources"
    )
    field: str | None = key(
        None, "Field of the text (`completion`).", readers="tunesmith.data.formats.options"
    )
    field_messages: str = key(
        "messages", "Field of the turns.", readers="tunesmith.data.formats.options"
    )
    field_tools: str = key("tools", "Field of the tools.", readers="tunesmith.data.formats.options")
    message_property_mappings: dict[str, str] | None = key(
        None, "Template key -> row key, for each turn.", readers="tunesmith.data.formats.options"
    )
    message_field_training: str | None = key(
        None, "Key of a turn's own wish to train.", readers="tunesmith.data.formats.options"
    )
    roles: dict[str, list[str]] | None = key(
        None,
        "Template role -> names in the rows.",
        readers="tunesmith.data.formats.options tunesmith.runs.prepare",
    )
    roles_to_train: list[str] | None = key(
        None,
        "Roles whose turns train; `[assistant]` when left out.",
        readers="tunesmith.runs.prepare",
    )
    train_on_eos: TrainOn | None = key(
        None,
        "Which ends of turn train: of trained turns, all, the last, none.",
        readers="tunesmith.runs.prepare",
    )
    train_on_eot: TrainOn | None = key(
        None, "The same for `eot_tokens`.", readers="tunesmith.runs.prepare"
    )
    drop_system_message: bool = key(
        False, "Leave system turns out.", readers="tunesmith.data.formats.options"
    )
    chat_template: str | None = key(
        None, "This data set's own template.", readers="tunesmith.runs.prepare"
    )
    chat_template_jinja: str | None = key(
        None, "Its text or file.", readers="tunesmith.runs.prepare"
    )
    history: Literal["whole", "expand", "last"] | None = key(
        None,
        "Where a template changes earlier turns: `expand` to a sample a turn, or train the `last`.",
        readers="tunesmith.runs.prepare",
    )


class DataSection(Section):
    """Which data, and how it is prepared."""

    datasets: tuple[DatasetEntry, ...] = key(
        (),
        "The data sets to train on.",
        flat="datasets",
        readers="tunesmith.data.prepare tunesmith.runs.finish tunesmith.runs.prepare",
    )
    test_datasets: tuple[DatasetEntry, ...] = key(
        (),
        "Held-out data sets.",
        flat="test_datasets",
        readers="tunesmith.data.prepare tunesmith.runs.prepare",
    )
    val_set_size: float = key(
        0.0,
        "Held-out share (below 1) or number of rows.",
        flat="val_set_size",
        le=1_000_000_000,
        ge=0,
        readers="tunesmith.data.build tunesmith.data.prepare tunesmith.runs.prepare",
    )
    prepared_path: str | None = key(
        None,
        "Folder of the prepared cache.",
        flat="dataset_prepared_path",
        readers="tunesmith.runs.prepare",
    )
    workers: int | None = key(
        None,
        "Processes that prepare data.",
        flat="dataset_num_proc",
        le=1024,
        ge=1,
        readers="tunesmith.runs.prepare",
    )
    shuffle_merged: bool = key(
        True,
        "Shuffle the merged data sets (the order of training is drawn each epoch either way).",
        flat="shuffle_merged_datasets",
        readers="tunesmith.runs.plan",
    )
    curriculum: bool = key(
        False,
        "Keep the order of the data.",
        flat="curriculum_sampling",
        readers="tunesmith.runs.plan",
    )
    train_on_inputs: bool = key(
        False,
        "Train on prompts too (not for `chat_template`).",
        flat="train_on_inputs",
        when=reads_prompts,
        why="chat data chooses turns by `roles_to_train`",
        alters_training=True,
        readers="tunesmith.data.formats.options tunesmith.data.prepare tunesmith.runs.prepare",
    )
    exact_deduplication: bool = key(
        False,
        "Drop rows that are equal in tokens.",
        flat="dataset_exact_deduplication",
        readers="tunesmith.data.build tunesmith.data.prepare",
    )
    group_by_length: bool = key(
        False,
        "Batches of similar length.",
        flat="group_by_length",
        when=lambda c: not c.packing.sample_packing,
        why="packed rows are all as long",
        readers="tunesmith.runs.plan",
    )
