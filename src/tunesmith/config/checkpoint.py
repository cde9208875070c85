"""Section ``checkpoint``: where, when, how many, and how to go on."""

from __future__ import annotations

from typing import Literal

from tunesmith.config.section import Section, key


class CheckpointSection(Section):
    """What is written, and when."""

    output_dir: str = key(
        "./outputs",
        "Where everything of the run goes.",
        flat="output_dir",
        readers="tunesmith.runs.assemble tunesmith.runs.finish tunesmith.runs.train",
    )
    strategy: Literal["no", "steps", "epoch"] | None = key(
        None, "`no`, `steps` or `epoch`.", flat="save_strategy", readers="tunesmith.engine.cadence"
    )
    steps: float | None = key(
        None,
        "Every so many steps; below 1 a share of all steps.",
        flat="save_steps",
        le=1_000_000_000,
        gt=0,
        readers="tunesmith.engine.cadence tunesmith.runs.plan",
    )
    per_epoch: float | None = key(
        None,
        "So many times an epoch.",
        flat="saves_per_epoch",
        le=1_000_000,
        ge=0,
        readers="tunesmith.engine.cadence tunesmith.runs.plan",
    )
    keep: int | None = key(
        None,
        "How many checkpoints stay.",
        flat="save_total_limit",
        le=1_000_000,
        ge=1,
        readers="tunesmith.runs.assemble",
    )
    weights_only: bool = key(
        False,
        "Save no optimizer state: such a checkpoint cannot be resumed.",
        flat="save_only_model",
        readers="tunesmith.runs.assemble tunesmith.runs.preflight.resume",
    )
    in_background: bool = key(
        False,
        "Write checkpoints in a thread while training goes on, from a copy in the host's memory of "
        "everything that is saved. The files are the same.",
        flat="save_async",
        readers="tunesmith.runs.assemble",
    )
    resume_from: str | None = key(
        None,
        "A checkpoint's folder to go on from.",
        flat="resume_from_checkpoint",
        readers="tunesmith.runs.train",
    )
    auto_resume: bool = key(
        True,
        "Go on by itself when `output_dir` holds an unfinished run.",
        flat="auto_resume_from_checkpoints",
        readers="tunesmith.runs.train",
    )
