"""The largest micro-batch of the run fits: it is run first, not hours later."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tunesmith.checkpoint.weights import n_bytes
from tunesmith.data.batch import Batch
from tunesmith.data.cache import PreparedSplit
from tunesmith.data.samples import TrainedSample
from tunesmith.data.stream import OrderSettings, collate_rows
from tunesmith.engine.report import peak_memory_bytes
from tunesmith.engine.run import Run
from tunesmith.errors import ExitCode, ProbeError
from tunesmith.runs.memory import GIB
from tunesmith.runs.preflight.probe import Subject

AT_START = peak_memory_bytes()
"""What the process held before there was a model: this is imported with the libraries."""


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
        moments = _unmade_state(run)  # lies there from the first step on
        run.forward_backward([batch], subject.totals(rows))
        del moments
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
    return f"{batch.n_tokens:,} tokens at once, the longest row {longest:,}: {_told(subject)}"


def _told(subject: Subject) -> str:
    """The peak so far, beside what the plan expected of the same memory."""
    planned = f"the plan expects {subject.plan.memory_gib.value:.2f}"
    peak = peak_memory_bytes()
    if subject.run.device.type == "cpu":
        return f"{(peak - AT_START) / GIB:.2f} GiB at most beyond the libraries, {planned}"
    return f"{peak / GIB:.2f} GiB at most, {planned} with what the device's libraries take"


def _largest(split: PreparedSplit, order: OrderSettings) -> list[TrainedSample]:
    """The longest rows that fill a micro-batch; the longest first."""
    room = order.capacity * order.micro_batch
    chosen: list[TrainedSample] = []
    for row in np.argsort(split.lengths, kind="stable")[::-1].tolist():
        if not order.packed and len(chosen) == order.micro_batch:
            break
        if (length := int(split.lengths[row])) <= room:
            chosen.append(split[row])
            room -= length
    return chosen


def _unmade_state(run: Run) -> torch.Tensor:
    """Memory of the size of the optimizer's state, so far as that is not there yet."""
    made = sum(map(n_bytes, run.optimizer.state_tensors().values()))
    missing = max(0, run.optimizer.expected_bytes() - made)
    return torch.empty(missing, dtype=torch.uint8, device=run.device)


def _batch(rows: Sequence[TrainedSample], order: OrderSettings) -> Batch:
    return collate_rows(rows, (0, 0), order)


def _evaluate(subject: Subject, rows: Sequence[TrainedSample]) -> None:
    run = subject.run
    run.policy.eval()
    with torch.no_grad():
        batch = _batch(rows, subject.plan.held_out_order)
        run.objective.loss(run.policy, batch.to(run.device))


def _too_large(subject: Subject, rows: Sequence[TrainedSample]) -> ProbeError:
    longest = rows[0]
    return ProbeError(
        f"the largest micro-batch does not fit into memory: {sum(map(len, rows)):,} tokens, the "
        f"longest row {len(longest):,}",
        hint="lower micro_batch_size (gradient_accumulation_steps keeps the batch), set "
        "gradient_checkpointing: true, or lower sequence_len",
        where=longest.source,
        exit_code=ExitCode.NO_ROOM,
    )
