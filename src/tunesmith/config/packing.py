"""Section ``packing``: sequence length, packing, padding, rows that are too long."""

from __future__ import annotations

from typing import Literal

from tunesmith.config.section import Section, key
from tunesmith.config.when import has_held_out, is_packed


class PackingSection(Section):
    """How documents share a row."""

    sequence_len: int = key(
        512,
        "Tokens in a row at most.",
        flat="sequence_len",
        le=10_000_000,
        ge=2,
        readers="tunesmith.data.prepare tunesmith.runs.plan tunesmith.runs.prepare",
    )
    eval_sequence_len: int | None = key(
        None,
        "The same for held-out rows.",
        flat="eval_sequence_len",
        when=has_held_out,
        why="there is no held-out data",
        le=10_000_000,
        ge=2,
        readers="tunesmith.runs.plan",
    )
    sample_packing: bool = key(
        False,
        "Put several documents into a row; each sees only itself.",
        flat="sample_packing",
        readers="tunesmith.runs.plan",
    )
    eval_sample_packing: bool | None = key(
        None,
        "The same for held-out rows; follows `sample_packing`.",
        flat="eval_sample_packing",
        when=has_held_out,
        why="there is no held-out data",
        readers="tunesmith.runs.plan",
    )
    pad_to_sequence_len: bool | None = key(
        None,
        "Fill every micro-batch up to one length (static shapes).",
        flat="pad_to_sequence_len",
        readers="tunesmith.runs.compile tunesmith.runs.plan",
    )
    sequential: bool = key(
        False,
        "Pack neighbours only, in order.",
        flat="sample_packing_sequentially",
        when=is_packed,
        why="sample_packing is not on",
        readers="tunesmith.runs.plan",
    )
    bin_size: int | None = key(
        None,
        "Documents in a row at most.",
        flat="sample_packing_bin_size",
        when=is_packed,
        why="sample_packing is not on",
        le=10_000_000,
        ge=1,
        readers="tunesmith.runs.plan",
    )
    group_size: int | None = key(
        None,
        "Pack so many rows of the epoch's order at a time; all of them together when left out.",
        flat="sample_packing_group_size",
        when=is_packed,
        why="sample_packing is not on",
        le=1_000_000_000,
        ge=1,
        readers="tunesmith.runs.plan",
    )
    batch_tokens: int | None = key(
        None,
        "A micro-batch takes whole rows up to so many tokens, in place of `micro_batch_size`.",
        flat="batch_tokens",
        when=lambda c: not c.packing.sample_packing,
        why="packed rows hold `sequence_len` tokens each",
        le=100_000_000,
        ge=2,
        readers="tunesmith.runs.plan",
    )
    pad_to_multiple_of: int | None = key(
        None,
        "Fill every micro-batch up to a multiple of so many tokens.",
        flat="pad_to_multiple_of",
        when=lambda c: not c.packing.pad_to_sequence_len,
        why="pad_to_sequence_len sets the length",
        le=1_000_000,
        ge=1,
        readers="tunesmith.runs.plan",
    )
    min_sample_len: int = key(
        2,
        "Shorter rows are dropped, with a ledger line.",
        flat="min_sample_len",
        le=10_000_000,
        ge=1,
        readers="tunesmith.data.prepare",
    )
    excess_length: Literal["drop", "truncate", "split", "error", "raise"] = key(
        "drop",
        "Rows longer than `sequence_len`: drop, truncate, split or error.",
        flat="excess_length_strategy",
        readers="tunesmith.data.prepare tunesmith.runs.plan",
    )
