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
    _found: tuple[Tensor, Tensor] | None = None

    @property
    def supervised(self) -> Tensor:
        """Positions whose target weighs something, int64 [S], ascending.

        Found on the host before the batch goes to its device; for weights that were put in later
        the device is asked, and the host waits.
        """
        weights = self.targets["weights"]
        if self._found is not None and self._found[0] is weights:
            return self._found[1]
        return weights.nonzero().squeeze(-1)

    @property
    def n_tokens(self) -> int:
        """All positions, padding included."""
        return int(self.inputs["input_ids"].numel())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on ``device``; the host does not wait for the copies."""
        device = torch.device(device)
        targets = {name: _sent(tensor, device) for name, tensor in self.targets.items()}
        return replace(
            self,
            inputs={name: _sent(tensor, device) for name, tensor in self.inputs.items()},
            targets=targets,
            segments=_sent(self.segments, device),
            _found=(targets["weights"], _sent(self.supervised, device)),
        )


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device. Memory that may be swapped out is copied while the host waits."""
    if device.type == "cuda" and not tensor.is_cuda:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
