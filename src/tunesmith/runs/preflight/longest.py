"""The largest micro-batch of the run fits: it is run first, not hours later."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tunesmith.data.batch import Batch
from tunesmith.data.cache import PreparedSplit
from tunesmith.data.collate import collate
from tunesmith.data.samples import TokenSample
from tunesmith.data.stream import OrderSettings
from tunesmith.engine.report import peak_memory_bytes
from tunesmith.errors import ExitCode, ProbeError
from tunesmith.runs.preflight.probe import Subject


def probe_longest(subject: Subject) -> str:
    """The memory that the largest micro-batch took, for training and for evaluation.

    Raises:
        ProbeError: exit 3, it does not fit; names its longest row.
    """
    run = subject.run
    rows = _largest(subject.train, subject.plan.train_order)
    held_out = getattr(run.held_out, "split", None)
    try:
        run.policy.train()
        batch = _batch(rows, subject.plan.train_order)
        run.forward_backward([batch], subject.totals(rows))
        run.policy.zero_grad(set_to_none=True)
        if held_out is not None:
            _evaluate(subject, _largest(held_out, subject.plan.held_out_order))
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _too_large(subject, rows) from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        raise _too_large(subject, rows) from error
    longest = max(map(len, rows))
    return (
        f"{batch.n_tokens:,} tokens at once, the longest row {longest:,}: "
        f"{peak_memory_bytes() / 2**30:.1f} GiB at most"
    )


def _largest(split: PreparedSplit, order: OrderSettings) -> list[TokenSample]:
    """The longest rows that fill a micro-batch; the longest first."""
    room = order.capacity * order.micro_batch
    chosen: list[TokenSample] = []
    for row in np.argsort(split.lengths, kind="stable")[::-1].tolist():
        if not order.packed and len(chosen) == order.micro_batch:
            break
        if (length := int(split.lengths[row])) <= room:
            chosen.append(split[row])
            room -= length
    return chosen


def _batch(rows: Sequence[TokenSample], order: OrderSettings) -> Batch:
    return collate(
        rows, index=(0, 0), capacity=order.capacity, pad_to=order.pad_to, pad_id=order.pad_id
    )


def _evaluate(subject: Subject, rows: Sequence[TokenSample]) -> None:
    run = subject.run
    run.policy.eval()
    with torch.no_grad():
        batch = _batch(rows, subject.plan.held_out_order)
        run.objective.loss(run.policy, batch.to(run.device))


def _too_large(subject: Subject, rows: Sequence[TokenSample]) -> ProbeError:
    longest = rows[0]
    return ProbeError(
        f"the largest micro-batch does not fit into memory: {sum(map(len, rows)):,} tokens, the "
        f"longest row {len(longest):,}",
        hint="lower micro_batch_size (gradient_accumulation_steps keeps the batch), set "
        "gradient_checkpointing: true, or lower sequence_len",
        where=longest.source,
        exit_code=ExitCode.NO_ROOM,
    )
