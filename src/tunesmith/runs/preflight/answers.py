"""Answers that are compared or judged: the reference is the policy at the start, and they differ.

So DPO begins at the logarithm of two, and KTO at a half.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import torch

from tunesmith.data.batch import Batch
from tunesmith.data.collate import collate
from tunesmith.data.known import REFERENCE
from tunesmith.data.samples import JudgedSample, PairSample
from tunesmith.engine.run import Run
from tunesmith.errors import ProbeError
from tunesmith.objectives.objective import document_lengths, segment_sum, token_logps
from tunesmith.objectives.reference import Referenced
from tunesmith.runs.preflight.probe import Subject

ROWS = 4
TOKENS = 256

SEEN = 512
"""Samples whose tokens are looked at."""

TOLERANCES = {"float32": 1e-4, "float16": 5e-3, "bfloat16": 2e-2}
"""Of the mean gap of log-probs: what the rounding of another order of sums explains."""

OTHER_START = "an adapter that does not start as nothing needs another reference; report it"
STALE = "what was kept under `references` in the cache is of another model: delete it there"
"""What to do where the reference is not the policy."""


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
    objective = subject.run.objective
    if not isinstance(objective, Referenced) or subject.plan.config.checkpoint.resume_from:
        return None
    gaps = [gap for batch in _compared(subject) for gap in _gaps(subject.run, objective, batch)]
    largest, where = max(gaps, key=lambda gap: (math.isnan(gap[0]), gap[0]))
    if not largest <= TOLERANCES[subject.plan.compute_dtype.value]:
        raise ProbeError(
            f"before the first step the reference is not the policy: {largest:.2g} a token apart",
            hint=STALE if subject.plan.config.objective.precompute_reference else OTHER_START,
            where=where,
        )
    return largest


def _compared(subject: Subject) -> Iterator[Batch]:
    """Excerpts of a few rows; what was asked beforehand is of whole rows, as the run draws them."""
    if subject.plan.config.objective.precompute_reference:
        yield next(subject.run.stream.from_step(0))[0]
        return
    for row in subject.excerpts(ROWS, TOKENS):
        yield collate([row], index=(0, 0), capacity=TOKENS)


def _gaps(run: Run, objective: Referenced, batch: Batch) -> list[tuple[float, str]]:
    """The mean gap a trained token of each document, and the row that it is of."""
    batch = batch.to(run.device)
    run.policy.eval()
    with torch.no_grad():
        policy_T = token_logps(run.policy, batch)
        reference_T = objective.asked(run.policy, batch).targets[REFERENCE]
    apart_N = segment_sum((policy_T - reference_T).abs(), batch.segments)
    means = (apart_N / document_lengths(batch).clamp(min=1)).tolist()
    return list(zip(means, batch.sources, strict=True))
