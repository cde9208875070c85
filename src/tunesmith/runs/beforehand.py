"""A reference asked once for all rows, before the first step: later epochs and runs find it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tunesmith.data.batch import Batch
from tunesmith.data.cache import PreparedSplit
from tunesmith.data.known import KnownReference, is_kept, keep
from tunesmith.data.mixing import PLAIN
from tunesmith.data.packing import Ints
from tunesmith.data.store import build_once, hash_json
from tunesmith.data.stream import MapStream, OrderSettings
from tunesmith.dist.mesh import Mesh
from tunesmith.dist.runtime import cache_dir
from tunesmith.log import get_logger
from tunesmith.models.policy import Policy
from tunesmith.objectives.reference import Referenced
from tunesmith.runs.plan import RunPlan

log = get_logger(__name__)

VERSION = 1
"""Raised when the same model and rows would give other numbers."""


def ask_beforehand(
    split: PreparedSplit,
    order: OrderSettings,
    asked: Referenced,
    policy: Policy,
    recipe: Mapping[str, Any],
) -> KnownReference:
    """What the reference says of every row of the split, from the cache or asked now."""
    whole = {**recipe, "data": split.fingerprint, "version": VERSION}
    folder = cache_dir() / "references" / hash_json(whole)[:32]

    def build(unfinished: Path) -> None:
        log.info("asking the reference about %s rows", f"{len(split):,}")
        keep(unfinished, _said(split, order, asked, policy), len(split), whole)

    waiting = partial(log.info, "another process asks the reference: waiting")
    build_once(folder, is_whole=is_kept, build=build, waiting=waiting)
    return KnownReference(folder)


def recipe_of(plan: RunPlan) -> dict[str, Any]:
    """What the numbers depend on beside the rows: the base, and how it computes."""
    return {
        "base": plan.identity["base_digest"],
        "quant": plan.config.quant.model_dump(mode="json"),
        "weights_dtype": plan.weights_dtype.value,
        "compute_dtype": plan.compute_dtype.value,
        "attention": plan.attention.value,
        "overrides": plan.config.model.config_overrides,
    }


def _said(
    split: PreparedSplit, order: OrderSettings, asked: Referenced, policy: Policy
) -> Iterator[tuple[Batch, Ints]]:
    """All rows once, in batches as large as the run's own."""
    once = replace(
        order,
        accumulation=1,
        epochs=1.0,
        max_steps=None,
        mixture=PLAIN,
        drop_last=False,
        shuffle=False,
    )
    stream = MapStream(split, once, Mesh.single("cpu"))
    device = next(policy.parameters()).device
    for step in range(stream.steps):
        (batch,) = stream.step_batches(step)
        yield asked.asked_all(policy, batch.to(device)), stream.global_rows(step)
