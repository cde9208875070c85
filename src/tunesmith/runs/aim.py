"""What a run is trained for: its objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from tunesmith.config.objective import ObjectiveSection
from tunesmith.objectives.objective import Objective
from tunesmith.registry import registry


def build_objective(section: ObjectiveSection) -> Objective:
    """The objective that the section describes: supervised fine-tuning where it names none."""
    name = section.method or "sft"
    make = cast(Callable[[ObjectiveSection], Objective], registry("objectives").load(name))
    return make(section)
