"""The same rows give the same loss and gradient, however they are packed, padded and split."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tunesmith.data.batch import Batch
from tunesmith.data.collate import collate
from tunesmith.data.samples import TokenSample
from tunesmith.errors import ProbeError
from tunesmith.models.state import trainable_state
from tunesmith.runs.preflight.coverage import nudged
from tunesmith.runs.preflight.probe import Subject

ROWS = 3
TOKENS = 64

TOLERANCES = {"float32": (1e-4, 1e-3), "float16": (5e-3, 5e-2), "bfloat16": (2e-2, 0.2)}
"""Of the loss, and of the gradient as a share of its norm: what another order of sums explains.

The gradient of 32 random blocks in bfloat16 moved by 0.08; a mean of means moves it by 0.3."""


def probe_invariance(subject: Subject) -> str:
    """How far loss and gradient move between three layouts of the same rows.

    Raises:
        ProbeError: further than rounding explains; names the layout.
    """
    rows = subject.excerpts(ROWS, _room(subject))
    with nudged(list(trainable_state(subject.run.policy).values())):
        loss, gradient = _measure(subject, rows, [_batch(rows)])
        gaps = {
            name: _gap(_measure(subject, rows, batches), (loss, gradient))
            for name, batches in _layouts(rows).items()
        }
    allowed_loss, allowed_gradient = _allowed(subject)
    for name, (of_loss, of_gradient) in gaps.items():
        if not (of_loss <= allowed_loss and of_gradient <= allowed_gradient):
            raise ProbeError(
                f"{name} changes what is trained: the loss by {of_loss:.2g}, the gradient by "
                f"{of_gradient:.2g} of its norm",
                hint="report the model; `--preflight-skip '[invariance]'` trains nevertheless",
                where=", ".join(row.source for row in rows),
            )
    furthest = max(of_gradient for _, of_gradient in gaps.values())
    return f"{', '.join(gaps)}: the same loss, the same gradient up to {furthest:.1g} of its norm"


def _allowed(subject: Subject) -> tuple[float, float]:
    """Products in int8 round each row by its own largest number: as coarse as bfloat16."""
    coarse = subject.plan.config.quant.load_in_8bit
    return TOLERANCES["bfloat16" if coarse else subject.plan.compute_dtype.value]


def _room(subject: Subject) -> int:
    """Tokens of a row: all of them, with padding, are no more than a micro-batch of the run."""
    plan = subject.plan
    return min(TOKENS, plan.sequence_len.value * plan.micro_batch.value // (ROWS + 1))


def _layouts(rows: Sequence[TokenSample]) -> dict[str, list[Batch]]:
    """Beside all rows in one micro-batch: padded, in another order, and one micro-batch a row."""
    n_tokens = sum(map(len, rows))
    return {
        "padding": [_batch(rows, pad_to=n_tokens + n_tokens // (2 * ROWS) + 1)],
        "packing in another order": [_batch(rows[::-1])],
        "accumulation": [_batch([row], number) for number, row in enumerate(rows)],
    }


def _batch(rows: Sequence[TokenSample], number: int = 0, *, pad_to: int | None = None) -> Batch:
    return collate(rows, index=(0, number), capacity=TOKENS, pad_to=pad_to)


def _measure(
    subject: Subject, rows: Sequence[TokenSample], batches: list[Batch]
) -> tuple[float, list[Tensor]]:
    """The loss and all gradients, dropout off."""
    run = subject.run
    run.policy.eval()
    run.policy.zero_grad(set_to_none=True)
    totals = subject.totals(rows)
    sums = run.forward_backward(batches, totals)
    loss = sum(float(value) / (totals[name] or 1.0) for name, value in sums.losses.items())
    parameters = trainable_state(run.policy).values()
    return loss, [p.grad.detach().clone() for p in parameters if p.grad is not None]


def _gap(
    measured: tuple[float, list[Tensor]], expected: tuple[float, list[Tensor]]
) -> tuple[float, float]:
    loss = abs(measured[0] - expected[0]) / max(1.0, abs(expected[0]))
    if len(measured[1]) != len(expected[1]):
        return loss, float("inf")
    pairs = list(zip(measured[1], expected[1], strict=True))
    difference = torch.stack([(a.float() - b.float()).norm() for a, b in pairs]).norm()
    norm = torch.stack([b.float().norm() for _, b in pairs]).norm()
    return loss, float(difference / norm)
