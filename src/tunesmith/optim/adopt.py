"""ADOPT: Adam that divides by the second moment of the step before, so that any beta2 converges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import torch
from torch import Tensor


class Adopt(torch.optim.Optimizer):
    """ADOPT with decoupled decay (Taniguchi et al. 2024, arXiv:2411.02853, algorithm 2).

    The first step only measures: no weight moves. From then on the gradient is divided by the root
    of the second moment *before* it enters it, kept within the fourth root of the step's number,
    and averaged. State and arithmetic have the parameters' dtype.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.9999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(groups, defaults)

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
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(group, parameter, parameter.grad)
        return loss

    def _update(self, group: dict[str, Any], parameter: Tensor, grad: Tensor) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.ones((), dtype=torch.float32)  # on the host: nothing waits
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = grad.square()
            return
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        beta1, beta2 = group["betas"]
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        bound = float(state["step"]) ** 0.25
        mean.lerp_((grad / square.sqrt().clamp(min=group["eps"])).clamp(-bound, bound), 1 - beta1)
        parameter.sub_(mean, alpha=group["lr"])
        square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        state["step"] += 1
