"""Every row is drawn once an epoch, and a resumed run draws the rows that would have come next."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from tunesmith.data.batch import Batch
from tunesmith.data.stream import MapStream
from tunesmith.errors import ProbeError
from tunesmith.runs.preflight.probe import Subject

STEPS = 3
"""How many steps are compared, and how far into the run a resume is tried."""


def probe_order(subject: Subject) -> str:
    """That the order is a function of the step alone; its digest, for comparing two runs.

    Raises:
        ProbeError: rows of an epoch are missing or come twice, another stream draws another order,
            or going on from a step is not going on.
    """
    _every_row_once(subject)
    stream = subject.stream
    other = MapStream(stream.split, stream.order, stream.mesh)
    last = min(STEPS, stream.steps)
    whole = _drawn(stream, 0, last)
    if _drawn(other, 0, last) != whole:
        raise ProbeError(
            "two streams of the same data and seed draw other rows: the order is not a function "
            f"of the step; the first step holds {', '.join(stream.rows(0)[:3])}",
            hint="report it: a run that is resumed would repeat some rows and skip others",
            where=", ".join(stream.rows(0)[:3]),
        )
    for step in {0, last - 1, stream.steps - 1}:
        _goes_on(stream, other, step)
    digest = hashlib.sha256(stream.plan_of(0).members.tobytes()).hexdigest()[:12]
    return f"a resumed run draws what would have come next; the first epoch's order is {digest}"


def _every_row_once(subject: Subject) -> None:
    """Raise where the first epoch leaves a row out or takes one twice, and nothing asked for it."""
    stream = subject.stream
    if not stream.order.mixture.is_plain:
        return
    counts = np.bincount(stream.plan_of(0).members, minlength=len(stream.split))
    if (counts == 1).all():
        return
    lost, twice = int((counts == 0).sum()), int((counts > 1).sum())
    tokens = int(stream.split.lengths[counts == 0].sum())
    row = subject.train[int(np.argmax(counts != 1))].source
    raise ProbeError(
        f"an epoch of {len(counts):,} rows leaves out {lost:,} of them ({tokens:,} tokens) and "
        f"takes {twice:,} twice; the first such row is {row}",
        hint="this is a bug of the packer; report it",
        where=row,
    )


def _goes_on(stream: MapStream, other: MapStream, step: int) -> None:
    """Raise unless a stream that starts at the step gives the batches of that step first."""
    found = _digest(next(iter(other.from_step(step)), []))
    if found != _digest(stream.step_batches(step)):
        raise ProbeError(
            f"a run that goes on after step {step} would not go on with the rows of step "
            f"{step + 1} ({', '.join(stream.rows(step)[:3])})",
            hint="report it: a resumed run would repeat some rows and skip others",
            where=f"step {step + 1}",
        )


def _drawn(stream: MapStream, first: int, last: int) -> list[str]:
    return [_digest(stream.step_batches(step)) for step in range(first, last)]


def _digest(batches: list[Batch]) -> str:
    """Rows, ids and weights of the micro-batches of a step."""
    digest = hashlib.sha256()
    for batch in batches:
        digest.update("\n".join(batch.sources).encode())
        for tensor in (*batch.inputs.values(), *batch.targets.values()):
            digest.update(torch.as_tensor(tensor).contiguous().numpy().tobytes())
    return digest.hexdigest()
