"""The same rows under the same config cost what they cost before a library was upgraded.

What a new version computes otherwise, it computes otherwise everywhere: no comparison inside of one
process can tell. So the numbers of a run's first rows are kept in the cache once every probe has
passed, and the next run of the same base, rows and config is compared with them.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

from tunesmith.config.flat import to_flat
from tunesmith.data.collate import collate
from tunesmith.dist.runtime import cache_dir
from tunesmith.errors import ProbeError
from tunesmith.models.state import trainable_state
from tunesmith.runs.preflight.coverage import nudged
from tunesmith.runs.preflight.invariance import allowed_gaps, measure
from tunesmith.runs.preflight.probe import Subject

ROWS = 3
TOKENS = 64

FOLDER = "first-rows"
"""Of the cache: a file a config."""

HARMLESS = ("output_dir", "preflight_skip", "logging_steps", "dataset_num_proc", "max_steps")
"""Keys that cannot change what the first rows cost."""


def probe_upgrade(subject: Subject) -> str:
    """How far loss and gradient norm of the first rows are from those of the run before.

    Raises:
        ProbeError: further than rounding explains, and versions changed, which it names.
    """
    if subject.base is None:
        return "not compared: the model was handed in"
    if subject.resumed:
        return "not compared: the weights are a checkpoint's, no run begins with them"
    numbers = _measure(subject)
    versions = dict(subject.plan.environment.versions)
    path = cache_dir() / FOLDER / f"{_key(subject)}.json"
    earlier = _read(path)
    if earlier is None:
        content = {"numbers": numbers, "versions": versions}
        subject.once_passed.append(partial(_write, path, content))
        return f"loss {numbers['loss']:.4f} on {ROWS} rows, with which a later run is compared"
    changed = _changed(earlier["versions"], versions)
    allowed = allowed_gaps(subject)
    for name, limit in zip(("loss", "gradient"), allowed, strict=True):
        was, is_ = float(earlier["numbers"][name]), numbers[name]
        if abs(is_ - was) <= limit * max(1.0 if name == "loss" else 0.0, abs(was)):
            continue
        told = (
            f"the {name} of the first rows is {is_:.6g}, an earlier run of the same base, rows "
            f"and config had {was:.6g}"
        )
        if not changed:
            return f"{told}, under the same versions"
        raise ProbeError(
            f"{told}; changed since: {changed}",
            hint=f"go back to those versions, or remove {path} to accept the new numbers",
            where=changed.split(" ")[0],
        )
    since = f" although {changed}" if changed else ""
    return f"loss {numbers['loss']:.4f} on {ROWS} rows, as an earlier run had it{since}"


def _measure(subject: Subject) -> dict[str, float]:
    """Loss and gradient norm of the first rows in one micro-batch, dropout off."""
    rows = subject.excerpts(ROWS, TOKENS)
    with nudged(list(trainable_state(subject.run.policy).values())):
        batch = collate(rows, index=(0, 0), capacity=TOKENS)
        loss, gradient = measure(subject, rows, [batch])
    norm = sum(float(part.double().square().sum()) for part in gradient) ** 0.5
    return {"loss": loss, "gradient": norm}


def _key(subject: Subject) -> str:
    """A name for all that decides these numbers but the libraries."""
    plan = subject.plan
    config = {k: v for k, v in to_flat(plan.config).items() if k not in HARMLESS}
    facts = {
        "config": config,
        "base": plan.identity.get("base_digest"),
        "data": subject.train.fingerprint,
        "device": plan.environment.device_name,
        "dtypes": [plan.compute_dtype.value, plan.weights_dtype.value],
    }
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _changed(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The libraries whose versions differ, each with both."""
    return ", ".join(
        f"{name} {before.get(name)} -> {now.get(name)}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    )


def _read(path: Path) -> dict[str, Any] | None:
    """What an earlier run kept; None where there is none, or it cannot be read."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        float(found["numbers"]["loss"]), float(found["numbers"]["gradient"])
        dict(found["versions"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found


def _write(path: Path, content: dict[str, Any]) -> None:
    """Keep it; a cache that cannot be written to is as good."""
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(content), encoding="utf-8")
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
