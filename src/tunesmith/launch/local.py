"""In this process, on one device: prepare, plan, then train or check."""

from __future__ import annotations

from collections.abc import Collection

from transformers import PreTrainedModel

from tunesmith.config.environment import Environment
from tunesmith.config.schema import RunConfig
from tunesmith.dist import runtime
from tunesmith.runs.material import Material
from tunesmith.runs.plan import RunPlan, make_plan
from tunesmith.runs.prepare import Rows, prepare, prepare_sample
from tunesmith.runs.train import Result, check, train
from tunesmith.runs.watchers import Watchers

SAMPLE_ROWS = 1000
"""Rows of each data set that a plan without prepared data is estimated from."""


def start(
    config: RunConfig,
    watchers: Watchers,
    *,
    accepted: Collection[str] = (),
    given: Rows | None = None,
    model: PreTrainedModel | None = None,
) -> Result:
    """Train what the config describes, from the data to the exported model.

    ``given`` are rows that stand for the first data set, ``model`` a module for the base model.
    ``accepted`` names changes across which an unfinished run may go on.
    """
    environment = runtime.detect()
    material = prepare(config, given=given, progress=watchers.preparing)
    plan = make_plan(config, material.facts(environment))
    watchers.planned(plan, material)
    mesh = runtime.start(environment)
    try:
        return train(plan, material, mesh, watchers, accepted=accepted, model=model)
    finally:
        runtime.stop()


def rehearse(config: RunConfig, watchers: Watchers) -> None:
    """Do what ``start`` does up to and with the preflight, and leave nothing behind.

    Raises:
        ProbeError: what the preflight found.
    """
    environment = runtime.detect()
    material = prepare(config, progress=watchers.preparing)
    plan = make_plan(config, material.facts(environment))
    watchers.planned(plan, material)
    mesh = runtime.start(environment)
    try:
        check(plan, material, mesh, watchers)
    finally:
        runtime.stop()


def draft(
    config: RunConfig, environment: Environment | None = None, *, exact: bool = False
) -> tuple[RunPlan, Material]:
    """The plan, from prepared data where there is some or ``exact`` asks for it, else estimated."""
    material = prepare(config) if exact else prepare_sample(config, SAMPLE_ROWS)
    return make_plan(config, material.facts(environment or runtime.detect())), material
