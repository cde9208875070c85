"""A micro-batch: what the model reads, what the objective reads, and where documents start.

Dimensions: T tokens of the micro-batch, N documents.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents laid end to end on one axis; there is no second one.

    ``inputs``: ``input_ids`` int64 [T] and ``position_ids`` int64 [T] (restart with each document).
    ``targets``: ``target_ids`` int64 [T], the token after each position inside its document, and
    ``weights`` float32 [T], the weight of that target; both are already shifted, so that the last
    position of every document weighs 0.
    ``segments``: int32 [N + 1], cumulative document lengths, 0 first, T last. It alone says where a
    document starts. ``longest`` is the longest document, a plain int, so that nothing has to ask
    the device. ``index`` is (step, number of the micro-batch in the global step); it seeds dropout.
    ``sources``: ``file:row`` of each document ("" for padding).
    """

    inputs: dict[str, Tensor]
    targets: dict[str, Tensor]
    segments: Tensor
    longest: int
    index: tuple[int, int]
    sources: tuple[str, ...]

    @property
    def n_tokens(self) -> int:
        """All positions, padding included."""
        return int(self.inputs["input_ids"].numel())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on ``device``."""
        return replace(
            self,
            inputs={name: t.to(device, non_blocking=True) for name, t in self.inputs.items()},
            targets={name: t.to(device, non_blocking=True) for name, t in self.targets.items()},
            segments=self.segments.to(device, non_blocking=True),
        )
