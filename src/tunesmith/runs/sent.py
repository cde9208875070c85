"""What a tracker is told of a run before its numbers: an allow-list, so that no secret is in it."""

from __future__ import annotations

from pathlib import PurePosixPath
from re import compile as regex
from typing import Any
from urllib.parse import urlsplit

from tunesmith.config.flat import to_flat, top_leaves
from tunesmith.runs.plan import RunPlan

SECTIONS = frozenset(
    {
        *("optim", "batch", "packing", "adapters", "quant", "precision", "memory", "kernels"),
        *("evaluation", "guard"),
    }
)
"""Sections whose numbers and truth values are sent."""

TEXTS = frozenset({"optimizer", "lr_scheduler", "adapter", "attn_implementation"})
"""Keys whose text is sent: names of a few letters."""

_NAME = regex(r"[A-Za-z0-9_.:+-]{1,64}")
_REPO = regex(r"[A-Za-z0-9_.-]{1,96}(/[A-Za-z0-9_.-]{1,96})?")


def sent(plan: RunPlan) -> dict[str, Any]:
    """Flat keys that differ from their defaults, and what the plan derived: numbers, truth values
    and short names. Of models and data sets no more than their name is told, of addresses and
    folders the last part.
    """
    leaves = top_leaves()
    given = {
        name: value
        for name, value in to_flat(plan.config).items()
        if leaves[name].section in SECTIONS and _is_sent(name, value)
    }
    derived = {name: choice.value for name, choice in plan.chosen() if _is_plain(choice.value)}
    data = plan.config.data.datasets
    return {
        "base_model": short_name(plan.config.model.base),
        "datasets": ", ".join(short_name(entry.path) for entry in data if entry.path),
        "device_name": plan.environment.device_name,
        **{f"version/{name}": text for name, text in plan.environment.versions.items()},
        **derived,
        **given,
    }


def short_name(path: str) -> str:
    """A hub's name as it is, else the last part of a path or address, without what follows `?`."""
    if _REPO.fullmatch(path):
        return path
    return PurePosixPath(urlsplit(path).path).name


def _is_sent(name: str, value: Any) -> bool:
    is_name = isinstance(value, str) and bool(_NAME.fullmatch(value))
    return isinstance(value, bool | int | float) or (name in TEXTS and is_name)


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str)
