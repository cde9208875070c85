"""Section ``data``: the data set entries, splits, preparation, loading."""

from __future__ import annotations

from typing import Any, Literal

from tunesmith.config.inline import InlineFormat
from tunesmith.config.section import Section, key
from tunesmith.config.when import (
    is_mixed,
    is_typed,
    is_weighted,
    keeps_order,
    reads_prompts,
    reads_styles,
    reads_turns,
)

TrainOn = Literal["turn", "all", "last", "none"]

# When a key of an entry has an effect. Those that choose what trains are errors where they do not.
TURNS: dict[str, Any] = {"when": reads_turns, "why": "only chat data (`chat_template`) reads it"}
CHOICE: dict[str, Any] = {**TURNS, "alters_training": True}
PAIRS: dict[str, Any] = {
    "when": is_typed("dpo.chat_template", "orpo.chat_template"),
    "why": "only pairs of conversations (`rl: dpo` with `chat_template`) read it",
}
STEPS: dict[str, Any] = {
    "when": is_typed("stepwise_supervised"),
    "why": "only `type: stepwise_supervised` reads it",
}
DRAWN: dict[str, Any] = {
    "when": is_typed("_synthetic"),
    "why": "only `type: _synthetic` reads it",
}


class DatasetEntry(Section):
    """One data set: where it is, how its rows are read, what of them trains."""

    path: str = key(
        ...,
        "A hub id, file, folder or glob.",
        readers="tunesmith.data.build tunesmith.data.prepare tunesmith.data.sources "
        "tunesmith.data.windows tunesmith.runs.estimate tunesmith.runs.finish",
    )
    type: str | InlineFormat | None = key(
        None,
        "The format's name, or a mapping of fields and formats; `chat_template` when left out.",
        readers="tunesmith.data.build tunesmith.data.formats.load "
        "tunesmith.data.formats.options tunesmith.data.sources tunesmith.runs.prepare",
    )
    name: str | None = key(None, "The hub data set's configuration.", readers="tunesmith.data.hub")
    split: str | None = key(
        None, "Which split, slices allowed (`train[:10%]`).", readers="tunesmith.data.sources"
    )
    revision: str | None = key(
        None, "Commit, branch or tag of the hub repository.", readers="tunesmith.data.hub"
    )
    data_files: str | list[str] | dict[str, str | list[str]] | None = key(
        None,
        "Files inside `path`: a name or pattern, a list, or a mapping of splits to them.",
        readers="tunesmith.data.hub tunesmith.data.sources",
    )
    ds_type: Literal["json", "jsonl", "csv", "parquet", "arrow", "text"] | None = key(
        None, "The files' format, when their names do not say.", readers="tunesmith.data.sources"
    )
    skip: int | None = key(
        None,
        "Rows at the start that are left out.",
        le=1_000_000_000_000,
        ge=0,
        readers="tunesmith.data.selection",
    )
    shards: int | None = key(
        None,
        "Use one of so many equal parts of the rows, drawn with `seed`.",
        le=1_000_000_000,
        ge=1,
        readers="tunesmith.data.prepare tunesmith.data.selection",
    )
    shards_idx: int = key(
        0,
        "Which of the `shards`, from 0.",
        le=1_000_000_000,
        ge=0,
        readers="tunesmith.data.selection",
    )
    max_samples: int | None = key(
        None,
        "Rows to use at most, from the first.",
        le=1_000_000_000_000,
        ge=1,
        readers="tunesmith.data.selection",
    )
    weight: float | None = key(
        None,
        "Share of an epoch's samples that this data set gets; the others have 1.",
        le=1_000_000,
        gt=0,
        when=is_mixed,
        why="held-out data is read once, as it is",
        readers="tunesmith.runs.streams",
    )
    repeats: float = key(
        1.0,
        "How often an epoch sees this data set; 0.5 is half of it, another half each epoch.",
        when=lambda entry, c: is_mixed(entry, c) and not c.data.streaming,
        why="held-out data and streams are read once, from start to end",
        le=1_000_000,
        gt=0,
        readers="tunesmith.runs.streams",
    )
    field: str | None = key(
        None,
        "Field of the text (`completion`).",
        when=is_typed("completion"),
        why="only `type: completion` reads it",
        alters_training=True,
        readers="tunesmith.data.formats.options",
    )
    text_column: str | None = key(
        None,
        "Field of the text (`pretrain`).",
        when=is_typed("pretrain"),
        why="only `type: pretrain` reads it",
        alters_training=True,
        readers="tunesmith.data.formats.options",
    )
    conversation: str | None = key(
        None,
        "Prompt style of `alpaca` and its relatives: instruct, chat, chatml, phi.",
        when=reads_styles,
        why="only `alpaca` and its relatives read it, where the type names no style",
        alters_training=True,
        readers="tunesmith.data.formats.options",
    )
    field_chosen: str = key(
        "chosen", "Field of the better answer.", **PAIRS, readers="tunesmith.data.formats.options"
    )
    field_rejected: str = key(
        "rejected", "Field of the worse answer.", **PAIRS, readers="tunesmith.data.formats.options"
    )
    step_separator: str = key(
        "\n",
        "What ends each step (`stepwise_supervised`).",
        **STEPS,
        readers="tunesmith.data.formats.options",
    )
    max_completion_length: int | None = key(
        None,
        "Tokens that are kept of all steps.",
        le=1_000_000_000,
        ge=1,
        **STEPS,
        readers="tunesmith.data.formats.options",
    )
    train_on_last_step_only: bool = key(
        False,
        "Use the label of the last step alone.",
        **STEPS,
        readers="tunesmith.data.formats.options",
    )
    length: int = key(
        1000,
        "Rows that are drawn (`_synthetic`).",
        le=1_000_000_000,
        ge=1,
        **DRAWN,
        readers="tunesmith.data.formats.synthetic",
    )
    sequence_length: int | None = key(
        None,
        "Tokens of a drawn row; `sequence_len` when left out.",
        le=100_000_000,
        ge=2,
        **DRAWN,
        readers="tunesmith.data.formats.synthetic",
    )
    min_input_id: int = key(
        100,
        "The lowest id that is drawn.",
        le=2_000_000_000,
        ge=0,
        **DRAWN,
        readers="tunesmith.data.formats.synthetic",
    )
    max_input_id: int | None = key(
        None,
        "One more than the highest; the vocabulary when left out.",
        le=2_000_000_000,
        ge=1,
        **DRAWN,
        readers="tunesmith.data.formats.synthetic",
    )
    seed: int = key(
        0,
        "What the ids are drawn from.",
        le=4_294_967_295,
        ge=0,
        **DRAWN,
        readers="tunesmith.data.formats.synthetic",
    )
    field_messages: str = key(
        "messages", "Field of the turns.", **TURNS, readers="tunesmith.data.formats.options"
    )
    field_tools: str = key(
        "tools", "Field of the tools.", **TURNS, readers="tunesmith.data.formats.options"
    )
    message_property_mappings: dict[str, str] | None = key(
        None,
        "Template key -> row key, for each turn.",
        **CHOICE,
        readers="tunesmith.data.formats.options",
    )
    message_field_training: str | None = key(
        None,
        "Key of a turn's own wish to train.",
        **CHOICE,
        readers="tunesmith.data.formats.options",
    )
    message_field_training_detail: str | None = key(
        None,
        "Key of a turn's spans: `[{begin_offset, end_offset, train}]`, characters of the content.",
        **CHOICE,
        readers="tunesmith.data.formats.options",
    )
    message_field_weight: str | None = key(
        None,
        "Key of a turn's weight in the loss; 0 does not train.",
        **CHOICE,
        readers="tunesmith.data.formats.options",
    )
    field_system: str = key(
        "system",
        "Field of a row's system text, for rows whose turns begin with none.",
        **TURNS,
        readers="tunesmith.data.formats.options",
    )
    field_thinking: str | None = key(
        None,
        "Key of a turn's reasoning in the rows; `reasoning_content` when left out.",
        **TURNS,
        readers="tunesmith.data.formats.options",
    )
    template_thinking_key: str | None = key(
        None,
        "Key of a turn's reasoning in the template; `reasoning_content` when left out.",
        **TURNS,
        readers="tunesmith.data.formats.options tunesmith.runs.prepare",
    )
    split_thinking: bool = key(
        False,
        "Take `<think>...</think>` out of answers into the key of their reasoning.",
        **CHOICE,
        readers="tunesmith.data.formats.options tunesmith.runs.prepare",
    )
    roles: dict[str, list[str]] | None = key(
        None,
        "Template role -> names in the rows.",
        **CHOICE,
        readers="tunesmith.data.formats.options tunesmith.runs.prepare",
    )
    roles_to_train: list[str] | None = key(
        None,
        "Roles whose turns train; `[assistant]` when left out.",
        **CHOICE,
        readers="tunesmith.runs.prepare",
    )
    turns_to_train: Literal["all", "last"] = key(
        "all",
        "Of the turns that would train: all, or the last one alone.",
        **CHOICE,
        readers="tunesmith.runs.prepare",
    )
    train_on_eos: TrainOn | None = key(
        None,
        "Which ends of turn train: of trained turns, all, the last, none.",
        **CHOICE,
        readers="tunesmith.runs.prepare",
    )
    train_on_eot: TrainOn | None = key(
        None, "The same for `eot_tokens`.", **CHOICE, readers="tunesmith.runs.prepare"
    )
    drop_system_message: bool = key(
        False,
        "Leave system and developer turns out.",
        **CHOICE,
        readers="tunesmith.data.formats.options",
    )
    chat_template: str | None = key(
        None, "This data set's own template.", **CHOICE, readers="tunesmith.runs.prepare"
    )
    chat_template_jinja: str | None = key(
        None, "Its text or file.", **CHOICE, readers="tunesmith.runs.prepare"
    )
    history: Literal["whole", "expand", "last"] | None = key(
        None,
        "Where a template changes earlier turns: `expand` to a sample a turn, or train the `last`.",
        **CHOICE,
        readers="tunesmith.runs.prepare",
    )


class DataSection(Section):
    """Which data, and how it is prepared."""

    datasets: tuple[DatasetEntry, ...] = key(
        (),
        "The data sets to train on.",
        flat="datasets",
        readers="tunesmith.data.prepare tunesmith.runs.finish tunesmith.runs.preflight.serving "
        "tunesmith.runs.prepare tunesmith.runs.streams",
    )
    test_datasets: tuple[DatasetEntry, ...] = key(
        (),
        "Held-out data sets.",
        flat="test_datasets",
        readers="tunesmith.data.prepare tunesmith.runs.prepare tunesmith.runs.streams",
    )
    val_set_size: float = key(
        0.0,
        "Held-out share (below 1) or number of rows.",
        flat="val_set_size",
        le=1_000_000_000,
        ge=0,
        readers="tunesmith.data.prepare tunesmith.runs.prepare",
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
        "False lets shuffle_before_merging_datasets order what curriculum_sampling keeps (without "
        "that the order of training is drawn anew each epoch either way).",
        flat="shuffle_merged_datasets",
        readers="tunesmith.runs.streams",
    )
    curriculum: bool = key(
        False,
        "Train in the order of the data, each epoch the same.",
        flat="curriculum_sampling",
        readers="tunesmith.runs.plan tunesmith.runs.streams",
    )
    shuffle_before_merging: bool = key(
        False,
        "Shuffle within each data set, and keep the data sets one after the other.",
        flat="shuffle_before_merging_datasets",
        when=lambda c: keeps_order(c) and not c.data.shuffle_merged,
        why="it orders what curriculum_sampling keeps, under shuffle_merged_datasets: false",
        readers="tunesmith.runs.streams",
    )
    interleave: bool = key(
        False,
        "Where curriculum_sampling keeps the order: spread each data set evenly over the epoch.",
        flat="interleave_datasets",
        when=keeps_order,
        why="without curriculum_sampling all is shuffled, and a stream is mixed by `weight`",
        readers="tunesmith.runs.streams",
    )
    mixture_until: Literal["first_exhausted", "all_exhausted"] = key(
        "first_exhausted",
        "With weights: an epoch ends when the first data set was seen whole, or when all were.",
        flat="mixture_until",
        when=is_weighted,
        why="no data set has a `weight`, or the data is a stream",
        readers="tunesmith.runs.streams",
    )
    shards: int = key(
        1,
        "Use one of so many equal parts of the merged rows.",
        flat="dataset_shard_num",
        le=1_000_000_000,
        ge=1,
        readers="tunesmith.data.prepare",
    )
    shard_index: int = key(
        0,
        "Which of the `dataset_shard_num` parts, from 0.",
        flat="dataset_shard_idx",
        when=lambda c: c.data.shards > 1,
        why="dataset_shard_num is not set",
        le=1_000_000_000,
        ge=0,
        readers="tunesmith.data.prepare",
    )
    drop_last: bool = key(
        False,
        "Leave out the last step of an epoch where it is not full.",
        flat="dataloader_drop_last",
        readers="tunesmith.runs.plan",
    )
    streaming: bool = key(
        False,
        "Prepare the data while it trains, a window of rows at a time; needs `max_steps`.",
        flat="streaming",
        readers="tunesmith.runs.prepare tunesmith.runs.streams",
    )
    window: int = key(
        10_000,
        "Rows of a stream that are shuffled and packed together.",
        flat="streaming_multipack_buffer_size",
        when=lambda c: c.data.streaming,
        why="streaming is not on",
        le=100_000_000,
        ge=1,
        readers="tunesmith.runs.streams",
    )
    train_on_inputs: bool = key(
        False,
        "Train on prompts too; of chats, every turn.",
        flat="train_on_inputs",
        when=reads_prompts,
        why="`roles_to_train` names the turns that train",
        alters_training=True,
        readers="tunesmith.data.formats.options tunesmith.data.prepare tunesmith.runs.prepare",
    )
    exact_deduplication: bool = key(
        False,
        "Drop rows that are equal in tokens.",
        flat="dataset_exact_deduplication",
        readers="tunesmith.data.prepare tunesmith.data.windows",
    )
    group_by_length: bool = key(
        False,
        "Batches of similar length.",
        flat="group_by_length",
        when=lambda c: not c.packing.sample_packing,
        why="packed rows are all as long",
        readers="tunesmith.runs.plan",
    )
