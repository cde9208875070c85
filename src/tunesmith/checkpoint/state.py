"""``TrainState``: the few numbers that say how far a run is. A checkpoint is this plus tensors."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class TrainState:
    """Where the run stands. ``step`` counts finished optimizer steps.

    ``tokens`` and ``trained_tokens`` are global sums since step 0. ``counters`` holds small named
    integers (skipped steps, ...). ``best`` is the best evaluation metric and the step it came from.
    """

    step: int = 0
    epoch: float = 0.0
    tokens: int = 0
    trained_tokens: float = 0.0
    best: float | None = None
    best_step: int | None = None
    counters: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``state.json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TrainState:
        """The state that ``to_json`` wrote."""
        return cls(**data)
