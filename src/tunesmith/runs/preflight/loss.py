"""Loss and gradient are those that plain transformers gives for the same rows, one by one."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from tunesmith.config.flat import to_flat
from tunesmith.data.collate import collate
from tunesmith.data.samples import TokenSample
from tunesmith.errors import ProbeError
from tunesmith.models.policy import Policy
from tunesmith.models.state import trainable_state
from tunesmith.runs.preflight.coverage import nudged
from tunesmith.runs.preflight.invariance import allowed_gaps
from tunesmith.runs.preflight.probe import Subject

ROWS = 3
TOKENS = 256

TOLERANCES = {"float32": 1e-4, "float16": 5e-3, "bfloat16": 3e-2}
"""Of a mean log-probability: the rounding of one other order of summation in each dtype."""


def probe_loss(subject: Subject) -> str:
    """How far our loss over packed rows lies from transformers' over the rows alone.

    Raises:
        ProbeError: further than rounding explains.
    """
    found = (one for one in subject.excerpts(64, TOKENS) if isinstance(one, TokenSample))
    samples = sorted(found, key=len)[:ROWS]
    ours = _our_loss(subject, samples)
    plain = _plain_loss(subject, samples)
    # Products in int8 round each row by its own largest number: as coarse as bfloat16.
    coarse = to_flat(subject.plan.config, all=True)["load_in_8bit"]
    tolerance = TOLERANCES["bfloat16" if coarse else subject.plan.compute_dtype.value]
    if not abs(ours - plain) <= tolerance * max(1.0, abs(plain)):
        names = ", ".join(sample.source for sample in samples)
        raise ProbeError(
            f"the loss is {ours:.6f}, plain transformers gives {plain:.6f} for the rows {names}",
            hint="report the model; `--preflight-skip '[loss]'` trains nevertheless",
            where=subject.plan.architecture.class_name,
        )
    _compare_gradients(subject, samples)
    return f"{ours:.4f} on {len(samples)} rows, plain transformers {plain:.4f}; gradients as long"


def _compare_gradients(subject: Subject, samples: list[TokenSample]) -> None:
    """Raise unless a step's gradient is as long as that of plain transformers' mean loss.

    Directions are the business of ``invariance``; here a factor would show that all layouts share.
    """
    run, parameters = subject.run, list(trainable_state(subject.run.policy).values())
    batch = collate(samples, index=(0, 0), capacity=max(map(len, samples)))
    with nudged(parameters):
        run.policy.eval()
        run.policy.zero_grad(set_to_none=True)
        run.forward_backward([batch], subject.totals(samples))
        ours = _norm(p.grad for p in parameters)
        run.policy.zero_grad(set_to_none=True)
        plain = _norm(_plain_gradients(subject, samples, parameters))
    _, allowed = allowed_gaps(subject)
    if not abs(ours - plain) <= allowed * plain:
        raise ProbeError(
            f"the gradient of {', '.join(one.source for one in samples)} has the norm {ours:.6g}, "
            f"plain transformers gives {plain:.6g}",
            hint="report the model; `--preflight-skip '[loss]'` trains nevertheless",
            where=subject.plan.architecture.class_name,
        )


def _plain_gradients(
    subject: Subject, samples: list[TokenSample], parameters: list[Tensor]
) -> list[Tensor | None]:
    """The gradients of the mean loss of the model's own forward, None where there is none."""
    policy = subject.run.policy
    weight = sum(float(sample.target_weights()[1:].sum()) for sample in samples)
    sums: list[Tensor | None] = [None] * len(parameters)
    with policy.plain_attention():
        for sample in samples:
            ids = torch.from_numpy(sample.input_ids.astype("int64")).to(subject.run.device)
            weights = torch.from_numpy(sample.target_weights()).to(ids.device)[1:]
            loss = (_nll(policy, ids) * weights).sum() / weight
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            sums = [
                b if a is None else a if b is None else a + b
                for a, b in zip(sums, found, strict=True)
            ]
    return sums


def _norm(gradients: Iterable[Tensor | None]) -> float:
    """The norm of all gradients together."""
    parts = [gradient.float().norm() for gradient in gradients if gradient is not None]
    return float(torch.stack(parts).norm()) if parts else 0.0


def _our_loss(subject: Subject, samples: list[TokenSample]) -> float:
    """The objective over all rows in one micro-batch, per weight."""
    run = subject.run
    batch = collate(samples, index=(0, 0), capacity=max(map(len, samples))).to(run.device)
    run.policy.eval()
    with torch.no_grad():
        loss = run.objective.loss(run.policy, batch)
    totals = subject.totals(samples)
    return sum(float(value) / totals[name] for name, value in loss.sums.items())


def _plain_loss(subject: Subject, samples: list[TokenSample]) -> float:
    """Cross-entropy of the model's own forward, a row at a time, with its own attention."""
    policy = subject.run.policy
    total = weight = 0.0
    with policy.plain_attention(), torch.no_grad():
        for sample in samples:
            ids = torch.from_numpy(sample.input_ids.astype("int64")).to(subject.run.device)
            weights = torch.from_numpy(sample.target_weights()).to(ids.device)[1:]
            total += float((_nll(policy, ids) * weights).sum())
            weight += float(weights.sum())
    return total / weight


def _nll(policy: Policy, ids: Tensor) -> Tensor:
    """Minus log p of each token after the first, from plain logits."""
    with policy.autocast(ids.device.type):
        logits = policy.model(input_ids=ids[None], use_cache=False).logits[0, :-1]
    return F.cross_entropy(logits.float(), ids[1:], reduction="none")
