"""Pairs and judged answers for tiny models, and the losses of objectives over cuts of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.conformance.tiny import VOCAB, build, policy_of
from tunesmith.config.objective import ObjectiveSection
from tunesmith.data.collate import collate
from tunesmith.data.samples import JudgedSample, PairSample, TokenSample, TrainedSample
from tunesmith.engine.report import StepSums
from tunesmith.engine.step import Backward
from tunesmith.models.policy import Policy
from tunesmith.objectives.judged import Judged
from tunesmith.objectives.objective import Objective
from tunesmith.objectives.pairs import Pairs
from tunesmith.objectives.reference import FrozenCopy, Referenced

CAPACITY = 64


def document(prompt: Sequence[int], answer: Sequence[int], source: str) -> TokenSample:
    ids = np.asarray([*prompt, *answer], dtype=np.int32)
    return TokenSample(ids, ((len(prompt), len(ids), 1.0),), source)


def pairs(count: int = 4, seed: int = 0) -> list[PairSample]:
    """Pairs with prompts and answers of different lengths."""
    draw = np.random.default_rng(seed)
    found = []
    for number in range(count):
        prompt, chosen, rejected = (
            draw.integers(3, VOCAB, size=int(draw.integers(2, 9))).tolist() for _ in range(3)
        )
        source = f"pairs.jsonl:{number + 1}"
        found.append(
            PairSample(document(prompt, chosen, source), document(prompt, rejected, source))
        )
    return found


def judged(count: int = 6) -> list[JudgedSample]:
    """Answers, every third one unwanted, each with the stranger of the row before."""
    answers = [pair.chosen for pair in pairs(count, seed=1)]
    found = []
    for number, answer in enumerate(answers):
        other = answers[number - 1]
        prompt = answer.input_ids[: answer.runs[0][0]].tolist()
        stranger = document(prompt, other.input_ids[other.runs[0][0] :].tolist(), other.source)
        found.append(JudgedSample(answer, number % 3 > 0, stranger))
    return found


def policy(seed: int = 0) -> Policy:
    return policy_of(build("Llama", dtype=torch.float64, seed=seed))


def objective(with_reference: bool = True, **keys: Any) -> Objective:
    """The objective of the keys, beside another random model."""
    section = ObjectiveSection(**keys)
    made: Objective = Judged(section) if section.method == "kto" else Pairs(section)
    if made.needs_reference and with_reference:
        return Referenced(made, FrozenCopy(policy(seed=9), policy()))
    return made


def totals_of(made: Objective, samples: Sequence[TrainedSample]) -> dict[str, float]:
    totals: dict[str, float] = {}
    for sample in samples:
        for name, weight in made.weights(sample).items():
            totals[name] = totals.get(name, 0.0) + weight
    return totals


def measure(
    model: Policy,
    made: Objective,
    cuts: Sequence[Sequence[TrainedSample]],
    pad_to: int | None = None,
) -> tuple[float, list[Tensor], StepSums]:
    """Loss, gradients and sums of a step whose micro-batches hold these samples."""
    model.zero_grad(set_to_none=True)
    batches = [
        collate(cut, index=(0, number), capacity=CAPACITY, pad_to=pad_to)
        for number, cut in enumerate(cuts)
    ]
    totals = totals_of(made, [sample for cut in cuts for sample in cut])
    sums = Backward(model, made, torch.device("cpu"), 0)(batches, totals)
    loss = sum(float(value) / totals[name] for name, value in sums.losses.items())
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    return loss, gradients, sums
