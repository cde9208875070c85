"""Section ``tracking``: what is logged, and how often."""

from __future__ import annotations

from tunesmith.config.section import Section, key


class TrackingSection(Section):
    """Numbers out. ``metrics.jsonl`` is always written, a line a step."""

    logging_steps: int = key(
        1,
        "A line on the terminal every so many steps.",
        flat="logging_steps",
        le=1_000_000_000,
        ge=1,
        readers="tunesmith.runs.plan",
    )
