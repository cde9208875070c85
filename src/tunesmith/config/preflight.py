"""Section ``preflight``: the probes that run before the first step."""

from __future__ import annotations

from typing import Literal

from tunesmith.config.section import Section, key

ProbeName = Literal[
    "settings",
    "conservation",
    "order",
    "cache",
    "stops",
    "turns",
    "serving",
    "isolation",
    "loss",
    "invariance",
    "coverage",
    "upgrade",
    "longest",
    "resume",
    "export",
    "answers",
]


class PreflightSection(Section):
    """Which probes are left out. The run records that they were."""

    skip: tuple[ProbeName, ...] = key(
        (),
        "Names of probes to leave out.",
        flat="preflight_skip",
        readers="tunesmith.runs.memory tunesmith.runs.train",
    )
