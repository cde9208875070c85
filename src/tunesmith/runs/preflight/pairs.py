"""Pairs: the reference is the policy at the start, and the answers differ behind one prompt."""

from __future__ import annotations

import math

import numpy as np
import torch

from tunesmith.data.collate import collate
from tunesmith.data.samples import PairSample
from tunesmith.errors import ProbeError
from tunesmith.objectives.objective import document_logps
from tunesmith.objectives.reference import Referenced
from tunesmith.runs.preflight.probe import Subject

ROWS = 4
TOKENS = 256

SEEN = 512
"""Pairs whose tokens are looked at."""

TOLERANCES = {"float32": 1e-4, "float16": 5e-3, "bfloat16": 2e-2}
"""Of a log-prob a token: what the rounding of another order of sums explains."""


def probe_pairs(subject: Subject) -> str:
    """How far policy and reference lie apart before the first step, and what the pairs are.

    Raises:
        ProbeError: further than rounding explains, or two answers are the same.
    """
    n_pairs, n_apart = _answers_differ(subject)
    told = f"{n_pairs} pairs differ" + (f", {n_apart} of them in their prompts" if n_apart else "")
    gap = _reference_gap(subject)
    if gap is None:
        return f"{told}; the loss reads no reference"
    return f"{told}; the reference is the policy up to {gap:.1g} a token"


def _answers_differ(subject: Subject) -> tuple[int, int]:
    """Pairs looked at, and those whose prompts are not the same tokens."""
    n_pairs = n_apart = 0
    for sample in subject.samples(SEEN):
        if not isinstance(sample, PairSample):
            continue
        n_pairs += 1
        chosen, rejected = sample.documents
        if np.array_equal(chosen.input_ids, rejected.input_ids):
            raise ProbeError(
                f"both answers of {sample.source} are the same tokens: nothing is preferred",
                hint="remove the row",
                where=sample.source,
            )
        shared = min(document.runs[0][0] for document in sample.documents)
        if not np.array_equal(chosen.input_ids[:shared], rejected.input_ids[:shared]):
            n_apart += 1
    return n_pairs, n_apart


def _reference_gap(subject: Subject) -> float | None:
    """The largest difference of the two, a token that trains; None without a reference.

    Raises:
        ProbeError: it is no rounding.
    """
    run = subject.run
    if not isinstance(run.objective, Referenced) or subject.plan.config.checkpoint.resume_from:
        return None
    rows = subject.excerpts(ROWS, TOKENS)
    batch = collate(rows, index=(0, 0), capacity=TOKENS).to(run.device)
    run.policy.eval()
    with torch.no_grad():
        policy_N = document_logps(run.policy, batch)
    reference_N = run.objective.asked(run.policy, batch).documents["reference"]
    lengths = [one.n_trained for sample in rows for one in sample.documents]
    gaps = ((policy_N - reference_N).abs().cpu() / torch.tensor(lengths)).tolist()
    largest = float(max(gaps))
    if not largest <= TOLERANCES[subject.plan.compute_dtype.value] or math.isnan(largest):
        raise ProbeError(
            f"before the first step the reference is not the policy: {largest:.2g} a token apart",
            hint="an adapter that does not start as nothing needs another reference; report it",
            where=rows[gaps.index(largest) // 2].source,
        )
    return largest
