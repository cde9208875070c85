"""What a record is in tokens: one schema per kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TokenSample:
    """Token ids and the weight of each as a target.

    ``input_ids`` is int32 [n]. ``runs`` are half-open, ordered, disjoint (start, end, weight) with
    weight > 0; a token outside of them weighs 0. The weight belongs to the *target* token, so that
    position 0, which nothing predicts, is never inside a run. ``source`` is ``file:row``.
    """

    input_ids: NDArray[np.int32]
    runs: tuple[tuple[int, int, float], ...]
    source: str

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def total_weight(self) -> float:
        """The sum of all target weights (1 a trained token, unless the data says otherwise)."""
        return float(sum((end - start) * weight for start, end, weight in self.runs))

    @property
    def n_trained(self) -> int:
        """Tokens that train, whatever they weigh."""
        return sum(end - start for start, end, _ in self.runs)

    def target_weights(self) -> NDArray[np.float32]:
        """Weight of each token as a target, float32 [n]."""
        weights = np.zeros(len(self.input_ids), dtype=np.float32)
        for start, end, weight in self.runs:
            weights[start:end] = weight
        return weights


@dataclass(frozen=True, slots=True)
class PairSample:
    """Two answers to one prompt, each after the prompt; the runs lie on the answers."""

    chosen: TokenSample
    rejected: TokenSample


@dataclass(frozen=True, slots=True)
class JudgedSample:
    """An answer after its prompt, and whether it is wanted; the runs lie on the answer."""

    answer: TokenSample
    is_good: bool


@dataclass(frozen=True, slots=True)
class StepSample:
    """A solution in steps: ids, int32 [n], and (position, right) for the end of each step.

    The end is the last token of the text that ends a step; steps whose end was cut off have none.
    """

    input_ids: NDArray[np.int32]
    ends: tuple[tuple[int, bool], ...]
    source: str


@dataclass(frozen=True, slots=True)
class PromptSample:
    """What a model is asked, ids int32 [n], and the columns that reward functions get."""

    input_ids: NDArray[np.int32]
    extras: Mapping[str, Any]
    source: str


Sample = TokenSample | PairSample | JudgedSample | StepSample | PromptSample
