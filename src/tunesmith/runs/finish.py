"""After the last step: export, read back, and say in ``tunesmith.json`` that the run is done."""

from __future__ import annotations

from tunesmith.checkpoint.state import TrainState
from tunesmith.runs.assemble import Assembled
from tunesmith.runs.material import Material
from tunesmith.runs.plan import RunPlan


def finish(assembled: Assembled, plan: RunPlan, material: Material, state: TrainState) -> None:
    """tbd"""
