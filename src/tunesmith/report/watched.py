"""What the terminal needs to know of a run and of a step; the engine's own are such things."""

from __future__ import annotations

from typing import Protocol

import torch

from tunesmith.checkpoint.state import TrainState


class Cadence(Protocol):
    """When something is shown."""

    @property
    def steps(self) -> int:
        """The number of the last step."""
        ...

    def log(self, state: TrainState) -> bool:
        """Whether this step is shown."""
        ...


class Watched(Protocol):
    """A run."""

    @property
    def cadence(self) -> Cadence:
        """When something is shown."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it runs: a GPU runs ahead of what can be read."""
        ...


class Step(Protocol):
    """A finished step's numbers."""

    @property
    def step(self) -> int:
        """Its number, from 1."""
        ...

    @property
    def epoch(self) -> float:
        """Epochs that are done."""
        ...

    @property
    def seconds(self) -> float:
        """How long it took."""
        ...

    @property
    def loss(self) -> float:
        """The mean over its trained tokens."""
        ...

    @property
    def learning_rate(self) -> float:
        """The rate that was used."""
        ...

    @property
    def grad_norm(self) -> float:
        """Before clipping."""
        ...

    @property
    def tokens_per_second(self) -> float:
        """Of all ranks together."""
        ...
