"""Muon for the matrices inside of a model, AdamW for all else, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, overload

import torch
from torch import Tensor

HEADS = ("lm_head", "embed_out", "output_layer", "score")
"""Words in the names of matrices that are no hidden layer's, beside embeddings."""

LIKE_ADAMW = "match_rms_adamw"
"""Updates as large as AdamW's, so that its rates serve (Liu et al. 2025, arXiv:2502.16982)."""


class Muon(torch.optim.Optimizer):
    """``torch.optim.Muon`` over the groups with ``is_matrix``, ``torch.optim.AdamW`` over others.

    ``matrices`` are the further arguments of Muon, ``others`` those of AdamW.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        matrices: Mapping[str, Any],
        others: Mapping[str, Any],
    ) -> None:
        self._matrices, self._others = dict(matrices), dict(others)
        super().__init__(groups, {})
        self._parts()  # fills in the groups' defaults, and refuses wrong arguments

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts():
            part.step()
        return loss

    def _parts(self) -> list[torch.optim.Optimizer]:
        """Torch's two, over these very groups and this very state."""
        matrices = [group for group in self.param_groups if group["is_matrix"]]
        others = [group for group in self.param_groups if not group["is_matrix"]]
        parts: list[torch.optim.Optimizer] = []
        if matrices:
            parts.append(torch.optim.Muon(matrices, **self._matrices))
        if others:
            parts.append(torch.optim.AdamW(others, **self._others))
        for part in parts:
            part.state = self.state
        return parts


def split(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups, those with both kinds of parameters cut in two, marked with ``is_matrix``."""
    found = []
    for group in groups:
        pairs = list(zip(group["names"], group["params"], strict=True))
        for wanted in (True, False):
            part = [(name, p) for name, p in pairs if is_hidden(name, p, group) is wanted]
            if part:
                names, parameters = (list(side) for side in zip(*part, strict=True))
                found.append({**group, "names": names, "params": parameters, "is_matrix": wanted})
    return found


def is_hidden(name: str, parameter: Tensor, group: Mapping[str, Any]) -> bool:
    """Whether this is a hidden layer's matrix: neither an embedding's nor a head's."""
    is_head = any(word in name.split(".") for word in HEADS)
    return parameter.ndim == 2 and not group["is_embedding"] and not is_head
