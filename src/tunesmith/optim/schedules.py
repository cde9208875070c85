"""Schedules: pure functions from the number of a step to a multiplier of the peak rate.

Step 0 is the first. The names and values are transformers' own (`transformers.get_scheduler`), and
axolotl's for `one_cycle`, `rex` and the floor of `cosine`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

from tunesmith.config.optim import OptimSection
from tunesmith.errors import ConfigError, Problem
from tunesmith.registry import registry

Schedule = Callable[[int], float]
Ramp = Literal["linear", "cosine", "1-sqrt"]

KEY = "lr_scheduler_kwargs"


@dataclass(frozen=True, slots=True)
class Span:
    """What every schedule knows: all steps, those of the warm-up, and the peak rate."""

    steps: int
    warmup: int
    rate: float

    def progress(self, step: int) -> float:
        """How much of the time after the warm-up has passed, 0 to 1 (and beyond)."""
        return (step - self.warmup) / max(1, self.steps - self.warmup)

    def rise(self, step: int) -> float | None:
        """The multiplier of the linear warm-up, or None after it."""
        return step / max(1, self.warmup) if step < self.warmup else None


def build_schedule(section: OptimSection, steps: int, warmup_steps: int) -> Schedule:
    """The schedule that ``section`` names, over ``steps`` of which ``warmup_steps`` warm up.

    Raises ``ConfigError`` for an unknown name or an argument that the schedule does not take.
    """
    maker = cast("Callable[..., Schedule]", registry("schedules").load(section.schedule))
    given = dict(section.schedule_args or {})
    floor = section.cosine_min_lr_ratio
    if floor is not None and section.schedule in ("cosine", "rex"):
        given.setdefault("min_lr_rate", floor)
    span = Span(steps, warmup_steps, section.learning_rate)
    known = list(inspect.signature(maker).parameters)[1:]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise _wrong(
            f"the schedule `{section.schedule}` takes no `{unknown[0]}`",
            f"it takes {', '.join(known) or 'no arguments'}",
        )
    try:
        return maker(span, **given)
    except (TypeError, ValueError) as error:
        raise _wrong(str(error), "correct the schedule's arguments") from error


def count_warmup(section: OptimSection, steps: int) -> int:
    """How many steps warm up: `warmup_steps`, `warmup_ratio`, or the default.

    As in axolotl a single step becomes two: the first of them has rate 0, so that one alone would
    not warm up at all.
    """
    if section.warmup_steps is not None:
        chosen = section.warmup_steps
    elif section.warmup_ratio is not None:
        chosen = int(section.warmup_ratio * steps)
    else:
        chosen = default_warmup(steps)
    return 2 if chosen == 1 else chosen


def default_warmup(steps: int) -> int:
    """Three in a hundred steps, at most 100; none in a run of fewer than 34 steps."""
    return min(int(0.03 * steps), 100)


def constant(span: Span) -> Schedule:
    """The peak, always."""
    return lambda step: 1.0


def constant_with_warmup(span: Span) -> Schedule:
    """A linear warm-up, then the peak."""

    def at(step: int) -> float:
        rise = span.rise(step)
        return 1.0 if rise is None else rise

    return at


def linear(span: Span) -> Schedule:
    """A linear warm-up, then a straight line to 0 at the step after the last."""

    def at(step: int) -> float:
        rise = span.rise(step)
        return max(0.0, 1.0 - span.progress(step)) if rise is None else rise

    return at


def cosine(span: Span, num_cycles: float = 0.5, min_lr_rate: float = 0.0) -> Schedule:
    """A linear warm-up, then a cosine down to ``min_lr_rate`` of the peak."""

    def at(step: int) -> float:
        rise = span.rise(step)
        if rise is not None:
            return rise
        wave = 0.5 * (1.0 + math.cos(math.pi * num_cycles * 2.0 * span.progress(step)))
        return max(0.0, wave * (1 - min_lr_rate) + min_lr_rate)

    return at


def cosine_with_min_lr(
    span: Span,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
) -> Schedule:
    """``cosine`` with a floor that must be given, as a rate or as a share of the peak."""
    return cosine(span, num_cycles, _floor(span, min_lr, min_lr_rate))


def cosine_warmup_with_min_lr(
    span: Span,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
) -> Schedule:
    """A warm-up that starts above 0 (at ``warmup_lr_rate``), then a cosine one step ahead."""
    floor = _floor(span, min_lr, min_lr_rate)

    def at(step: int) -> float:
        if step < span.warmup:
            if warmup_lr_rate is None:
                return (step + 1) / max(1, span.warmup)
            return warmup_lr_rate + (1.0 - warmup_lr_rate) * step / max(1, span.warmup - 1)
        wave = 0.5 * (1.0 + math.cos(math.pi * num_cycles * 2.0 * span.progress(step + 1)))
        return max(0.0, wave * (1 - floor) + floor)

    return at


def cosine_with_restarts(span: Span, num_cycles: int = 1) -> Schedule:
    """A linear warm-up, then ``num_cycles`` half cosines, each from the peak to 0."""

    def at(step: int) -> float:
        rise = span.rise(step)
        if rise is not None:
            return rise
        progress = span.progress(step)
        if progress >= 1.0:
            return 0.0
        return 0.5 * (1.0 + math.cos(math.pi * ((num_cycles * progress) % 1.0)))

    return at


def polynomial(span: Span, lr_end: float = 1e-7, power: float = 1.0) -> Schedule:
    """A linear warm-up, then ``remaining ** power`` down to the rate ``lr_end``."""
    if not span.rate > lr_end:
        raise ValueError(f"`lr_end` ({lr_end:g}) must be below the peak rate ({span.rate:g})")

    def at(step: int) -> float:
        rise = span.rise(step)
        if rise is not None:
            return rise
        if step > span.steps:
            return lr_end / span.rate
        # A warm-up over all steps leaves nothing to decay over: the last point is the peak.
        remaining = float((1.0 - span.progress(step)) ** power)
        return ((span.rate - lr_end) * remaining + lr_end) / span.rate

    return at


def inverse_sqrt(span: Span, timescale: int | None = None) -> Schedule:
    """A linear warm-up, then one over the square root of time in units of ``timescale``."""
    scale = timescale if timescale is not None else span.warmup or 10_000

    def at(step: int) -> float:
        rise = span.rise(step)
        return 1.0 / math.sqrt((step - span.warmup + scale) / scale) if rise is None else rise

    return at


def warmup_stable_decay(
    span: Span,
    num_decay_steps: int,
    num_stable_steps: int | None = None,
    warmup_type: Ramp = "linear",
    decay_type: Ramp = "cosine",
    min_lr_ratio: float = 0.0,
    num_cycles: float = 0.5,
) -> Schedule:
    """Up, level, and down again over the last ``num_decay_steps``."""
    for kind in (warmup_type, decay_type):
        if kind not in ("linear", "cosine", "1-sqrt"):
            raise ValueError(f"`{kind}` is no ramp: linear, cosine or 1-sqrt")
    stable = num_stable_steps
    if stable is None:
        stable = span.steps - span.warmup - num_decay_steps
    fall_from = span.warmup + stable

    def at(step: int) -> float:
        if step < span.warmup:
            share = _ramp(warmup_type, 1.0 - step / span.warmup, 0.5)
        elif step < fall_from:
            return 1.0
        elif step < fall_from + num_decay_steps:
            share = _ramp(decay_type, (step - fall_from) / num_decay_steps, num_cycles)
        else:
            return min_lr_ratio
        return max(0.0, share * (1.0 - min_lr_ratio) + min_lr_ratio)

    return at


@dataclass(frozen=True, slots=True)
class OneCycle:
    """As torch's ``OneCycleLR``: up from 1/25 of the peak during the warm-up, then far below it.

    Momentum (Adam's first beta) goes the other way, unless ``cycle_momentum`` is off: down to
    ``base_momentum`` at the peak, and back. ``set_rates`` in ``optimizer.py`` follows both.
    """

    span: Span
    pct_start: float | None = None
    anneal_strategy: Literal["cos", "linear"] = "cos"
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False
    cycle_momentum: bool = True
    base_momentum: float = 0.85
    max_momentum: float = 0.95

    def __post_init__(self) -> None:
        if self.anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"`anneal_strategy` is `{self.anneal_strategy}`: cos or linear")

    def __call__(self, step: int) -> float:
        """The multiplier of the peak rate."""
        start = 1.0 / self.div_factor
        return self._between(step, (start, 1.0, start, start / self.final_div_factor))

    def momentum(self, step: int) -> float:
        """The momentum that goes with it."""
        high, low = self.max_momentum, self.base_momentum
        return self._between(step, (high, low, high, high))

    def _between(self, step: int, points: tuple[float, float, float, float]) -> float:
        """The value at ``step``: start, peak, the start again (with three phases), and the end."""
        first, peak, middle, last = points
        steps = self.span.steps
        share = self.span.warmup / steps if self.pct_start is None else self.pct_start
        phases = [(share * steps - 1.0, first, peak), (steps - 1.0, peak, last)]
        if self.three_phase:
            phases[1:] = [(2.0 * share * steps - 2.0, peak, middle), (steps - 1.0, middle, last)]
        begin = 0.0
        for finish, low, high in phases[:-1]:
            if step <= finish:
                return self._anneal(low, high, step - begin, finish - begin)
            begin = finish
        finish, low, high = phases[-1]
        return self._anneal(low, high, step - begin, finish - begin)

    def _anneal(self, low: float, high: float, passed: float, whole: float) -> float:
        part = min(1.0, passed / whole) if whole > 0 else 1.0
        if self.anneal_strategy == "linear":
            return (high - low) * part + low
        return high + (low - high) / 2.0 * (1.0 + math.cos(math.pi * part))


one_cycle = OneCycle
"""By the name in the YAML."""


def rex(span: Span, min_lr_rate: float = 0.0) -> Schedule:
    """A warm-up that ends on the peak, then ``z / (0.1 + 0.9 z)`` of the time that is left.

    (Chen et al. 2021, arXiv:2107.04197.) The step is counted from 1, as axolotl does.
    """
    left = span.steps - span.warmup

    def at(step: int) -> float:
        number = step + 1
        if number <= span.warmup:
            return number / span.warmup
        after = number - span.warmup
        if after >= left:
            return min_lr_rate
        z = (left - after) / left
        return min_lr_rate + (1.0 - min_lr_rate) * z / (0.1 + 0.9 * z)

    return at


def _floor(span: Span, min_lr: float | None, min_lr_rate: float | None) -> float:
    if (min_lr is None) == (min_lr_rate is None):
        raise ValueError("give one of `min_lr` and `min_lr_rate`")
    return min_lr / span.rate if min_lr is not None else float(min_lr_rate or 0.0)


def _ramp(kind: Ramp, passed: float, num_cycles: float) -> float:
    """From 1 at ``passed`` 0 down to 0 at 1."""
    if kind == "linear":
        return 1.0 - passed
    if kind == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * num_cycles * 2.0 * passed))
    return 1.0 - math.sqrt(passed)


def _wrong(message: str, fix: str) -> ConfigError:
    problem = Problem(code="out-of-range", message=message, fix=fix, key=KEY)
    return ConfigError(message, hint=fix, where=KEY, problems=[problem])
