"""The section becomes trackers."""

from __future__ import annotations

from pathlib import Path

from tunesmith.config.tracking import TrackingSection
from tunesmith.tracking.trackers import JsonLines, Tracker

METRICS_FILE = "metrics.jsonl"


def build_trackers(
    section: TrackingSection, output_dir: Path, *, resumed_step: int = 0
) -> list[Tracker]:
    """The trackers of a run, for its main process; ``metrics.jsonl`` is always among them."""
    return [JsonLines(output_dir / METRICS_FILE, resumed_step=resumed_step)]
