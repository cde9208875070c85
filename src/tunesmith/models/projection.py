"""From hidden states to log-probabilities and logits, whatever the head is made of.

Dimensions: S positions, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tunesmith.kernels.logprobs import chunked_logps, linear_logps
from tunesmith.models.heads import Head


class Projection:
    """The output embedding and what follows it.

    An exact ``nn.Linear``, or one that a modules-to-save wrapper holds, is read by its weight. Any
    other module is called: an adapter on the head would be ignored without an error otherwise.
    """

    def __init__(self, module: nn.Module, head: Head, compute_dtype: torch.dtype | None) -> None:
        self._module = module
        self._linear = _find_linear(module)
        self._finish = head.finish
        self._compute_dtype = compute_dtype

    def logps(self, hidden_SD: Tensor, targets_S: Tensor) -> Tensor:
        """Return log p(target), [S], with a gradient."""
        return chunked_logps(self._cast(hidden_SD), self._call, targets_S, finish=self._finish)

    def dot(
        self, hidden_SD: Tensor, targets_S: Tensor, coefficients_S: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return ``sum(coefficients * logps)`` with a gradient, and the log-probs without."""
        if self._linear is None:
            logps_S = self.logps(hidden_SD, targets_S)
            return (coefficients_S.to(logps_S.dtype) * logps_S).sum(), logps_S.detach()
        return linear_logps(
            self._cast(hidden_SD),
            self._linear.weight,
            self._linear.bias,
            targets_S,
            coefficients_S,
            finish=self._finish,
        )

    def logits(self, hidden_SD: Tensor) -> Tensor:
        """Return all logits, [S, V] float32, scaled and capped."""
        return self._finish(self._call(self._cast(hidden_SD)))

    def _cast(self, hidden_SD: Tensor) -> Tensor:
        return hidden_SD if self._compute_dtype is None else hidden_SD.to(self._compute_dtype)

    def _call(self, hidden_CD: Tensor) -> Tensor:
        if self._linear is None:
            logits: Tensor = self._module(hidden_CD)
            return logits
        # A head that trains is stored in float32 and multiplies in the dtype of what it gets.
        bias = self._linear.bias
        return F.linear(
            hidden_CD,
            self._linear.weight.to(hidden_CD.dtype),
            None if bias is None else bias.to(hidden_CD.dtype),
        )


def _find_linear(module: nn.Module) -> nn.Linear | None:
    from peft.utils.other import ModulesToSaveWrapper

    if type(module) is ModulesToSaveWrapper:
        wrapper: Any = module
        active = wrapper.active_adapters
        if wrapper.disable_adapters or not active or active[0] not in wrapper.modules_to_save:
            module = wrapper.original_module
        else:
            module = wrapper.modules_to_save[active[0]]
    return module if type(module) is nn.Linear else None
