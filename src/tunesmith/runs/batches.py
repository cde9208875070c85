"""The batch arithmetic: rows a forward takes, micro-batches a step sums, rows a step takes."""

from __future__ import annotations

from tunesmith.config.optim import BatchSection
from tunesmith.runs.choices import Chosen


def micro_batch(batch: BatchSection) -> Chosen[int]:
    """Rows (bins when packed) that one forward takes on one device."""
    if batch.micro_batch_size is not None:
        return Chosen(batch.micro_batch_size, "as asked", ("micro_batch_size",))
    if batch.batch_size is not None and batch.accumulation is not None:
        return Chosen(
            batch.batch_size // batch.accumulation,
            "batch_size / gradient_accumulation_steps",
            ("batch_size", "gradient_accumulation_steps"),
        )
    return Chosen(1, "default", ("micro_batch_size",))


def accumulation(batch: BatchSection, micro: int) -> Chosen[int]:
    """Micro-batches that one device sums in a step."""
    if batch.accumulation is not None:
        return Chosen(batch.accumulation, "as asked", ("gradient_accumulation_steps",))
    if batch.batch_size is not None:
        return Chosen(
            batch.batch_size // micro,
            "batch_size / micro_batch_size",
            ("batch_size", "micro_batch_size"),
        )
    return Chosen(1, "default", ("gradient_accumulation_steps",))
