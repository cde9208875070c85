"""The section becomes trackers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.config.tracking import TrackingSection
from tunesmith.tracking.ids import RunIds
from tunesmith.tracking.outside import Outside, Outsiders
from tunesmith.tracking.services import orders
from tunesmith.tracking.trackers import JsonLines, Tracker

METRICS_FILE = "metrics.jsonl"

FOLDER = "trackers"
"""Below the output directory: what the services' packages print, and the ids of their runs."""


def build_trackers(
    section: TrackingSection,
    output_dir: Path,
    *,
    resumed_step: int = 0,
    config: Mapping[str, Any] | None = None,
) -> list[Tracker]:
    """The trackers of a run, for its main process; ``metrics.jsonl`` is always the first.

    ``config`` is what the services are told of the run before its numbers. A run that is resumed
    goes on with the runs that they have of it.
    """
    trackers: list[Tracker] = [JsonLines(output_dir / METRICS_FILE, resumed_step=resumed_step)]
    folder = output_dir / FOLDER
    ids = RunIds(folder / "ids.json", resumed=resumed_step > 0)
    told = []
    for order in orders(section, output_dir):
        settings = {**order.settings, "resumed_step": resumed_step}
        if known := ids.get(order.name):
            settings["id"] = known
        start = {"settings": settings, "config": dict(config or {})}
        told.append(Outside(order, start, folder, ids))
    return [*trackers, Outsiders(told)] if told else trackers
