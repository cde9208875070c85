"""Answers that are compared or judged: the reference is the policy at the start, and they differ.

So DPO begins at the logarithm of two, and KTO at a half.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch

from tunesmith.data.collate import collate
from tunesmith.data.known import REFERENCE
from tunesmith.data.samples import JudgedSample, PairSample
from tunesmith.errors import ProbeError
from tunesmith.objectives.objective import token_logps
from tunesmith.objectives.reference import Referenced
from tunesmith.runs.preflight.probe import Subject

ROWS = 4
TOKENS = 256

SEEN = 512
"""Samples whose tokens are looked at."""

TOLERANCES = {"float32": 1e-4, "float16": 5e-3, "bfloat16": 2e-2}
"""Of the mean gap of log-probs: what the rounding of another order of sums explains."""


def probe_answers(subject: Subject) -> str:
    """What the answers are, and how far policy and reference lie apart before the first step.

    Raises:
        ProbeError: further than rounding explains, or two answers are the same.
    """
    told = _judged(subject) if subject.run.objective.sample == "judged" else _pairs(subject)
    gap = _reference_gap(subject)
    if gap is None:
        return f"{told}; the loss reads no reference"
    return f"{told}; the reference is the policy up to {gap:.1g} a token"


def _judged(subject: Subject) -> str:
    judged = [one for one in subject.samples(SEEN) if isinstance(one, JudgedSample)]
    classes = Counter(sample.is_good for sample in judged)
    return f"{classes[True]} wanted and {classes[False]} unwanted answers"


def _pairs(subject: Subject) -> str:
    """How many pairs were looked at, and of how many the prompts are not the same tokens."""
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
        n_apart += not np.array_equal(chosen.input_ids[:shared], rejected.input_ids[:shared])
    apart = f", of {n_apart} the prompts too" if n_apart else ""
    return f"the answers of {n_pairs} pairs differ{apart}"


def _reference_gap(subject: Subject) -> float | None:
    """The largest mean gap of a document's log-probs; None where there is no reference to ask.

    A run that goes on from a named checkpoint has left its reference already.

    Raises:
        ProbeError: it is no rounding.
    """
    run = subject.run
    if not isinstance(run.objective, Referenced) or subject.plan.config.checkpoint.resume_from:
        return None
    largest, where = 0.0, ""
    for row in subject.excerpts(ROWS, TOKENS):
        batch = collate([row], index=(0, 0), capacity=TOKENS).to(run.device)
        run.policy.eval()
        with torch.no_grad():
            policy_T = token_logps(run.policy, batch)
            reference_T = run.objective.asked(run.policy, batch).targets[REFERENCE]
        gap = float((policy_T - reference_T).abs().sum()) / row.n_trained
        if not gap <= largest:
            largest, where = gap, row.source
    if not largest <= TOLERANCES[subject.plan.compute_dtype.value]:
        raise ProbeError(
            f"before the first step the reference is not the policy: {largest:.2g} a token apart",
            hint="an adapter that does not start as nothing needs another reference; report it",
            where=where,
        )
    return largest
