"""Packed documents do not see each other: change one, and the other must not move by a bit."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunesmith.data.collate import collate
from tunesmith.data.samples import TokenSample
from tunesmith.errors import ProbeError
from tunesmith.models.policy import Want
from tunesmith.models.state import trainable_state
from tunesmith.runs.preflight.coverage import nudged
from tunesmith.runs.preflight.probe import Subject, excerpt

TOKENS = 96
"""Of each document: enough for several attention blocks, little enough for a laptop."""

MOE_TOLERANCE = 1e-2
"""Experts batch tokens of all documents, so that rounding may differ, and nothing more."""


def probe_isolation(subject: Subject) -> str:
    """What an intervention shows: A becomes A' of the same length, and B must stay bit-equal.

    Raises:
        ProbeError: B moved.
    """
    one, two = _two_documents(subject)
    other = TokenSample(_changed(one.input_ids, subject.plan.architecture.vocab), (), "")
    before = _hidden_of_second(subject, one, two)
    after = _hidden_of_second(subject, other, two)
    moved = float((before.float() - after.float()).abs().max())
    tolerance = MOE_TOLERANCE if subject.plan.architecture.n_experts else 0.0
    if moved > tolerance or not torch.isfinite(after).all():
        raise ProbeError(
            f"packed documents see each other: changing {one.source} moved {two.source} "
            f"by {moved:.2g} in {subject.plan.architecture.class_name}",
            hint="set sample_packing: false, or another attn_implementation, and report the model",
            where=subject.plan.attention.value,
        )
    _gradient_stays(subject, (one, other, two), tolerance)
    exact = "not by a bit" if moved == 0 else f"by {moved:.1g} at most, from its experts' rounding"
    return f"changing one document moves its neighbour and its gradient {exact}"


def _gradient_stays(
    subject: Subject, documents: tuple[TokenSample, TokenSample, TokenSample], tolerance: float
) -> None:
    """Raise unless the gradient of the second document's loss is the same behind either first."""
    one, other, two = documents
    with nudged(list(trainable_state(subject.run.policy).values())):
        before = _gradient_of_second(subject, one, two)
        after = _gradient_of_second(subject, other, two)
    for name, gradient in before.items():
        moved = float((gradient.float() - after[name].float()).abs().max())
        if moved > tolerance * max(1.0, float(gradient.float().abs().max())):
            raise ProbeError(
                f"packed documents see each other in the backward pass: changing {one.source} "
                f"moved the gradient that {two.source} gives `{name}` by {moved:.2g}",
                hint="set sample_packing: false, or another attn_implementation, and report it",
                where=name,
            )


def _gradient_of_second(
    subject: Subject, first: TokenSample, second: TokenSample
) -> dict[str, Tensor]:
    """The gradients when the second document alone trains."""
    run = subject.run
    run.policy.eval()
    run.policy.zero_grad(set_to_none=True)
    silent = TokenSample(first.input_ids, (), first.source)
    capacity = max(len(first), len(second))
    rows = [silent, second]
    run.forward_backward([collate(rows, index=(0, 0), capacity=capacity)], subject.totals(rows))
    return {
        name: parameter.grad.detach().clone()
        for name, parameter in trainable_state(run.policy).items()
        if parameter.grad is not None
    }


def _two_documents(subject: Subject) -> tuple[TokenSample, TokenSample]:
    """Two rows of the data, or one row twice where there is only one; the second one trains."""
    (first,) = subject.samples(1)
    return excerpt(first, TOKENS), subject.excerpts(2, TOKENS)[-1]


def _changed(ids: NDArray[np.int32], vocab: int) -> NDArray[np.int32]:
    """Other tokens, every one of them."""
    return ((ids.astype(np.int64) + 1 + vocab // 3) % vocab).astype(np.int32)


def _hidden_of_second(subject: Subject, first: TokenSample, second: TokenSample) -> Tensor:
    """What the policy makes of the second document behind the first, [tokens, hidden]."""
    run = subject.run
    capacity = max(len(first), len(second))
    batch = collate([first, second], index=(0, 0), capacity=capacity).to(run.device)
    run.policy.eval()
    with torch.no_grad():
        known = run.policy.architecture.head.known
        output = run.policy(batch, Want(logps=False, hidden=known, logits=not known))
    values = output.hidden_TD if output.hidden_TD is not None else output.logits_TV
    assert values is not None
    of_second: Tensor = values[len(first) :]
    return of_second
