"""``Optimizer``: one way to step, to set the rate, and to save and load by parameter name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from tunesmith.errors import ExitCode, RunError
from tunesmith.optim.adamw_bf16 import AdamWBf16
from tunesmith.optim.schedules import OneCycle, Schedule

DERIVED = frozenset({"qmap1", "qmap2"})
"""State that is the same for every parameter and made anew: bitsandbytes' quantisation tables."""


STAND_IN = (256, 256)
"""Large enough that bitsandbytes keeps its state in 8 bits."""


class Optimizer:
    """A torch optimizer with the peak rate of each of its groups.

    Each group of ``inner`` carries ``names``, one for each parameter.
    """

    def __init__(self, inner: torch.optim.Optimizer, rates: list[float]) -> None:
        self.inner = inner
        self.rates = rates
        # torch's fused kernels and ours read flag and scale on the device; for all others the host
        # reads the flag and the gradients are scaled beforehand.
        self._is_fused = bool(inner.defaults.get("fused"))
        self.reads_scalars = self._is_fused or isinstance(inner, AdamWBf16)

    @property
    def rate(self) -> float:
        """The rate of the first group, as it is used now."""
        return float(self.inner.param_groups[0]["lr"])

    def set_rate(self, multiplier: float) -> None:
        """Let every group learn at ``multiplier`` times its peak."""
        for group, peak in zip(self.inner.param_groups, self.rates, strict=True):
            group["lr"] = peak * multiplier

    def set_momentum(self, value: float) -> None:
        """Let every group use ``value`` as momentum, which is Adam's first beta."""
        for group in self.inner.param_groups:
            if "betas" in group:
                group["betas"] = (value, *group["betas"][1:])
            else:
                group["momentum"] = value

    def step(self, found_inf: Tensor | None = None, scale: Tensor | None = None) -> None:
        """Update the parameters by ``scale`` times their gradients, unless ``found_inf`` is true.

        Both are scalars. One that ``reads_scalars`` reads them on the device; others cost one wait
        of the host, and a pass over the gradients.
        """
        if self.reads_scalars:
            self._step_on_device(found_inf, scale)
            return
        if scale is not None:
            gradients = [p.grad for _, p in self._named() if p.grad is not None]
            torch._foreach_mul_(gradients, scale)
        if found_inf is None or not bool(found_inf.item()):
            self.inner.step()

    def _step_on_device(self, found_inf: Tensor | None, scale: Tensor | None) -> None:
        """The names are those of torch's fused optimizers, which divide."""
        inner: Any = self.inner
        inner.found_inf = None if found_inf is None else found_inf.to(torch.float32)
        inner.grad_scale = None if scale is None else scale.reciprocal()
        try:
            inner.step()
        finally:
            inner.found_inf = inner.grad_scale = None

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.inner.zero_grad(set_to_none=True)

    def state_tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state as ``"<what>.<parameter>"``: its own, not copies."""
        return {
            f"{what}.{name}": value
            for name, parameter in self._named()
            for what, value in self.inner.state.get(parameter, {}).items()
            if isinstance(value, Tensor) and what not in DERIVED
        }

    def expected_bytes(self) -> int:
        """What ``state_tensors`` will take after the first step, measured on a small stand-in.

        For optimizers whose state grows with the number of parameters, whatever their shape.
        """
        total = 0.0
        for group in self.inner.param_groups:
            kinds: dict[torch.dtype, int] = {}
            for parameter in group["params"]:
                kinds[parameter.dtype] = kinds.get(parameter.dtype, 0) + parameter.numel()
            for dtype, count in kinds.items():
                total += count * self._bytes_an_element(group, dtype)
        return round(total)

    def _bytes_an_element(self, group: Mapping[str, Any], dtype: torch.dtype) -> float:
        """The state's bytes for each element, of one step of a like optimizer."""
        device = group["params"][0].device
        stand_in = torch.nn.Parameter(torch.zeros(STAND_IN, dtype=dtype, device=device))
        stand_in.grad = torch.zeros_like(stand_in)
        inner = object.__new__(type(self.inner))
        inner.__dict__.update(self.inner.__dict__)
        inner.state = defaultdict(dict)
        inner.param_groups = [{**group, "params": [stand_in], "names": ["stand_in"]}]
        twin = Optimizer(inner, [0.0])
        twin.step()
        sizes = (value.numel() * value.element_size() for value in twin.state_tensors().values())
        return sum(sizes) / stand_in.numel()

    def state_scalars(self) -> dict[str, Any]:
        """What of the state is no tensor, as JSON can hold it.

        ``optimizer`` says whose state it is and ``stateless`` which parameters have none (they
        never had a gradient), so that a state that lost a part is not taken for a whole one.
        """
        states = {name: self.inner.state.get(parameter, {}) for name, parameter in self._named()}
        return {
            "optimizer": self._kind,
            "stateless": sorted(name for name, state in states.items() if not state),
        } | {
            f"{what}.{name}": value
            for name, state in states.items()
            for what, value in state.items()
            if not isinstance(value, Tensor)
        }

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
        """Take over a state that ``state_tensors`` and ``state_scalars`` gave, bit by bit.

        Raises ``RunError`` where it belongs to other parameters or another optimizer; then nothing
        was changed.
        """
        given = {name: value for name, value in scalars.items() if "." in name} | dict(tensors)
        if scalars.get("optimizer") != self._kind:
            raise _mismatch(f"it is of {scalars.get('optimizer')}, and this one is {self._kind}")
        by_name: dict[str, dict[str, Any]] = {}
        for key, value in given.items():
            what, _, name = key.partition(".")
            by_name.setdefault(name, {})[what] = value
        names = {name for name, _ in self._named()}
        if by_name.keys() | set(scalars.get("stateless", ())) != names:
            odd = min(names.symmetric_difference(by_name.keys() | set(scalars["stateless"])))
            raise _mismatch(f"`{odd}` is on one side only")
        loaded = self._adopted(by_name)
        self.inner.state.clear()
        self.inner.state.update(loaded)

    @property
    def _kind(self) -> str:
        return type(self.inner).__name__

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        for group in self.inner.param_groups:
            yield from zip(group["names"], group["params"], strict=True)

    def _adopted(self, by_name: Mapping[str, Mapping[str, Any]]) -> dict[Tensor, dict[str, Any]]:
        """The state of each parameter, on its device, its tensors copies of the given ones."""
        adopted: dict[Tensor, dict[str, Any]] = {}
        kinds: set[str] = set().union(*by_name.values())
        for number, group in enumerate(self.inner.param_groups):
            for index, name in enumerate(group["names"]):
                if name not in by_name:
                    continue
                parameter, found = group["params"][index], by_name[name]
                if hasattr(self.inner, "init_state"):  # bitsandbytes: it lays out its own memory
                    adopted[parameter] = self._filled(number, index, found)
                    continue
                if kinds != found.keys():
                    raise _mismatch(f"`{min(kinds - found.keys())}.{name}` is missing")
                adopted[parameter] = {
                    what: self._placed(f"{what}.{name}", value, parameter)
                    for what, value in found.items()
                }
        return adopted

    def _placed(self, key: str, value: Any, parameter: Tensor) -> Any:
        """A state value where torch wants it: beside its parameter; counters on the host."""
        if not isinstance(value, Tensor):
            return value
        if value.dim() == 0:
            return value.clone().to(parameter.device if self._is_fused else "cpu")
        if value.shape != parameter.shape:
            raise _mismatch(f"`{key}` is {list(value.shape)}, not {list(parameter.shape)}")
        return value.clone().to(parameter.device)

    def _filled(self, number: int, index: int, found: Mapping[str, Any]) -> dict[str, Any]:
        """A fresh state of bitsandbytes, overwritten with the given values."""
        group = self.inner.param_groups[number]
        parameter, name = group["params"][index], group["names"][index]
        before = self.inner.state.pop(parameter, None)
        self.inner.init_state(group, parameter, number, index)  # type: ignore[attr-defined]
        state: dict[str, Any] = self.inner.state.pop(parameter)
        if before is not None:
            self.inner.state[parameter] = before
        if state.keys() - DERIVED != found.keys():
            odd = min((state.keys() - DERIVED).symmetric_difference(found.keys()))
            raise _mismatch(f"`{odd}.{name}` is on one side only")
        for what, value in found.items():
            mine = state[what]
            if not isinstance(mine, Tensor):
                state[what] = value
                continue
            if mine.shape != value.shape or mine.dtype != value.dtype:
                shown = f"{value.dtype} {list(value.shape)}"
                raise _mismatch(f"`{what}.{name}` is {shown}, not {mine.dtype} {list(mine.shape)}")
            mine.copy_(value)
        return state


def set_rates(optimizer: Optimizer, schedule: Schedule, step: int) -> None:
    """Let ``optimizer`` learn as ``schedule`` says for ``step``: its rate, and its momentum too."""
    optimizer.set_rate(schedule(step))
    if isinstance(schedule, OneCycle) and schedule.cycle_momentum:
        optimizer.set_momentum(schedule.momentum(step))


def _mismatch(what: str) -> RunError:
    return RunError(
        f"the optimizer's state cannot be taken over: {what}",
        hint="go on with the config that wrote the checkpoint, or start in a new output_dir",
        exit_code=ExitCode.DAMAGED,
    )
