"""A reference asked once for all rows, before the first step: later epochs and runs find it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tunesmith.data.batch import Batch
from tunesmith.data.build import Progress
from tunesmith.data.cache import PreparedSplit
from tunesmith.data.known import KnownReference, is_kept, keep
from tunesmith.data.mixing import PLAIN
from tunesmith.data.packing import Ints
from tunesmith.data.store import build_once, hash_json
from tunesmith.data.stream import MapStream, OrderSettings
from tunesmith.dist.mesh import Mesh
from tunesmith.dist.runtime import cache_dir
from tunesmith.log import get_logger
from tunesmith.models.load import read_config
from tunesmith.models.policy import Policy
from tunesmith.models.source import LocatedModel
from tunesmith.objectives.reference import Referenced
from tunesmith.runs.plan import RunPlan

log = get_logger(__name__)

VERSION = 2
"""Raised when the same model and rows would give other numbers."""

LIBRARIES = ("torch", "transformers")
"""Packages that compute the numbers."""

UNREAD = frozenset({"_name_or_path", "architectures", "transformers_version", "use_cache"})
"""Fields of a model's config that say where it comes from, or how it writes."""


def ask_beforehand(
    split: PreparedSplit,
    order: OrderSettings,
    asked: Callable[[], Referenced],
    policy: Policy,
    recipe: Mapping[str, Any],
    progress: Progress,
) -> KnownReference:
    """What the reference says of every row of the split, from the cache or asked now.

    ``asked`` gives the reference, which may be a second model: it is called only to ask.
    """
    whole = {**recipe, "data": split.fingerprint, "version": VERSION}
    folder = cache_dir() / "references" / hash_json(whole)[:32]

    def build(unfinished: Path) -> None:
        log.info("asking the reference about %s rows", f"{len(split):,}")
        keep(unfinished, _said(split, order, asked(), policy, progress), len(split), whole)

    waiting = partial(log.info, "another process asks the reference: waiting")
    build_once(folder, is_whole=is_kept, build=build, waiting=waiting)
    return KnownReference(folder)


def recipe_of(plan: RunPlan, base: LocatedModel) -> dict[str, Any]:
    """What the numbers depend on beside the rows: the base, its config and code, and how it
    computes.
    """
    code = base.settings.remote_code
    versions = plan.environment.versions
    return {
        "base": plan.identity["base_digest"],
        "config": _settings_of(base),
        "code": code.sha256 if code is not None else None,
        "libraries": {name: versions[name] for name in LIBRARIES},
        "quant": plan.config.quant.model_dump(mode="json"),
        "weights_dtype": plan.weights_dtype.value,
        "compute_dtype": plan.compute_dtype.value,
        "attention": plan.attention.value,
    }


def _settings_of(base: LocatedModel) -> str:
    """A hash of the base's config, with what the run overrides of it."""
    fields = json.loads(read_config(base).to_json_string(use_diff=False))
    return hash_json({name: value for name, value in fields.items() if name not in UNREAD})


def _said(
    split: PreparedSplit,
    order: OrderSettings,
    asked: Referenced,
    policy: Policy,
    progress: Progress,
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
    n_done = 0
    for step in range(stream.steps):
        (batch,) = stream.step_batches(step)
        rows = stream.global_rows(step)
        yield asked.asked_all(policy, batch.to(device)), rows
        n_done += len(rows)
        progress("asking the reference", n_done, len(split))
