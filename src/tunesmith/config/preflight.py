"""Section ``preflight``: the probes that run before the first step."""

from __future__ import annotations

from typing import Literal

from tunesmith.config.section import Section, key

ProbeName = Literal[
    "conservation",
    "stops",
    "serving",
    "isolation",
    "loss",
    "invariance",
    "coverage",
    "longest",
    "resume",
    "export",
]


class PreflightSection(Section):
    """Which probes are left out. The run records that they were."""

    skip: tuple[ProbeName, ...] = key(
        (),
        "Names of probes to leave out.",
        flat="preflight_skip",
        readers="tunesmith.runs.train",
    )
