"""Rules for streams of rows, and for ways to batch that exclude each other."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith.config.checks.asked import Asked
from tunesmith.config.checks.rule import PlainRule, conflict, missing
from tunesmith.errors import REMOVE, Problem


def _stream(asked: Asked) -> str:
    """The key that asks for a stream, or ""."""
    return next((key for key in ("pretraining_dataset", "streaming") if asked.on(key)), "")


def streams_have_steps(asked: Asked) -> Iterator[Problem]:
    """Nobody knows how long a stream is, so the number of steps is given."""
    stream = _stream(asked)
    if stream and not asked.on("max_steps"):
        yield missing(
            "max_steps",
            f"`{stream}` has no length, so the run would have no end",
            {"max_steps": 1000},
            "use `max_steps: 1000`, or as many as you want",
        )


def streams_are_not_split(asked: Asked) -> Iterator[Problem]:
    """Nothing can be split off a stream."""
    stream = _stream(asked)
    if stream and asked.on("val_set_size"):
        yield conflict(
            "val_set_size",
            f"nothing can be split off `{stream}`",
            {"val_set_size": REMOVE},
            "take `val_set_size` out; `test_datasets` gives held-out data",
        )


def streams_are_not_sorted(asked: Asked) -> Iterator[Problem]:
    """Rows that are not there yet cannot be grouped by their length."""
    stream = _stream(asked)
    if stream and asked.on("group_by_length"):
        yield conflict(
            "group_by_length",
            f"the lengths of `{stream}` are not known in advance",
            {"group_by_length": REMOVE},
        )


def streams_are_not_deduplicated(asked: Asked) -> Iterator[Problem]:
    """Equal rows of a stream cannot be found without keeping them all."""
    stream = _stream(asked)
    if stream and asked.on("dataset_exact_deduplication"):
        yield conflict(
            "dataset_exact_deduplication",
            f"equal rows of `{stream}` cannot be found",
            {"dataset_exact_deduplication": REMOVE},
        )


def flattened_or_packed(asked: Asked) -> Iterator[Problem]:
    """A micro-batch is flattened, or rows are packed: both give one row without padding."""
    if asked.get("batch_flattening") is True and asked.on("sample_packing"):
        yield conflict(
            "batch_flattening",
            "packed rows have no padding that could be left out",
            {"batch_flattening": REMOVE},
        )


_STREAM = ("streaming", "pretraining_dataset")

RULES: tuple[PlainRule, ...] = (
    PlainRule((*_STREAM, "max_steps"), streams_have_steps),
    PlainRule((*_STREAM, "val_set_size"), streams_are_not_split),
    PlainRule((*_STREAM, "group_by_length"), streams_are_not_sorted),
    PlainRule((*_STREAM, "dataset_exact_deduplication"), streams_are_not_deduplicated),
    PlainRule(("batch_flattening", "sample_packing"), flattened_or_packed),
)
