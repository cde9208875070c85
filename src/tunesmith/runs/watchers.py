"""``Watchers``: who is told what happens before, between and after the steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.data.build import Progress
from tunesmith.data.prepare import silent
from tunesmith.report.console import Console
from tunesmith.runs.material import Material
from tunesmith.runs.plan import RunPlan
from tunesmith.runs.preflight.probe import Finding


def _unheard(*facts: object) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Watchers:
    """Callables for what is no event of the loop, and callbacks for what is.

    ``stage`` hears the name of each part as it begins ("load", "preflight", "train", "export").
    ``said`` hears a line for people (a checkpoint that is resumed from, one that is damaged).
    """

    preparing: Progress = silent
    planned: Callable[[RunPlan, Material], None] = _unheard
    stage: Callable[[str], None] = _unheard
    said: Callable[[str], None] = _unheard
    probed: Callable[[Finding], None] = _unheard
    finished: Callable[[Path], None] = _unheard
    callbacks: tuple[object, ...] = field(default=())


def told_to(console: Console) -> Watchers:
    """The watchers that hand everything to a terminal."""
    return Watchers(
        preparing=console.preparing,
        planned=console.planned,
        stage=console.stage,
        said=console.said,
        probed=console.probed,
        finished=console.finished,
        callbacks=console.callbacks,
    )
