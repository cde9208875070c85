"""What a record is in tokens: one schema per kind."""

from __future__ import annotations

from dataclasses import dataclass

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

    def target_weights(self) -> NDArray[np.float32]:
        """Weight of each token as a target, float32 [n]."""
        weights = np.zeros(len(self.input_ids), dtype=np.float32)
        for start, end, weight in self.runs:
            weights[start:end] = weight
        return weights
