"""The loss equals the one that plain transformers gives for the same rows, one by one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tunesmith.data.collate import collate
from tunesmith.data.samples import TokenSample
from tunesmith.errors import ProbeError
from tunesmith.models.policy import Policy
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
    samples = sorted(subject.excerpts(64, TOKENS), key=len)[:ROWS]
    ours = _our_loss(subject, samples)
    plain = _plain_loss(subject, samples)
    tolerance = TOLERANCES[subject.plan.compute_dtype.value]
    if not abs(ours - plain) <= tolerance * max(1.0, abs(plain)):
        names = ", ".join(sample.source for sample in samples)
        raise ProbeError(
            f"the loss is {ours:.6f}, plain transformers gives {plain:.6f} for the rows {names}",
            hint="report the model; `--preflight-skip '[loss]'` trains nevertheless",
            where=subject.plan.architecture.class_name,
        )
    return f"{ours:.4f} on {len(samples)} rows, plain transformers {plain:.4f}"


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
