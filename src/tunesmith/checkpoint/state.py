"""``TrainState``: the few numbers that say how far a run is. A checkpoint is this plus tensors."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol


class Progress(Protocol):
    """What one finished optimizer step adds; the engine's step report is one."""

    @property
    def step(self) -> int:
        """How many steps are finished now."""
        ...

    @property
    def epoch(self) -> float:
        """How many passes over the data are finished now."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens that the step's global batch held, padding not counted."""
        ...

    @property
    def trained_tokens(self) -> float:
        """The weight of those that were trained."""
        ...


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

    def advance(self, progress: Progress) -> None:
        """Move to the end of the step that was just made."""
        self.step = progress.step
        self.epoch = progress.epoch
        self.tokens += progress.tokens
        self.trained_tokens += progress.trained_tokens

    def evaluated(self, metric: float) -> bool:
        """Whether ``metric`` (lower is better) is the best so far; remembers it if so."""
        is_best = self.best is None or metric < self.best
        if is_best:
            self.best = metric
            self.best_step = self.step
        return is_best

    def become(self, other: TrainState) -> None:
        """Take over all that ``other`` says: the run went back to it."""
        for one in fields(self):
            setattr(self, one.name, getattr(other, one.name))

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``state.json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TrainState:
        """The state that ``to_json`` wrote."""
        return cls(**data)
