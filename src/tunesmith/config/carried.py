"""Whether the value of one key can be that of another: what an edit may carry over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from tunesmith import catalog
from tunesmith.config.checks.names import template_names
from tunesmith.config.dataset_types import type_names
from tunesmith.config.draft import flat_of
from tunesmith.config.flat import leaves
from tunesmith.config.kinds import value_problem
from tunesmith.config.schema import RunConfig
from tunesmith.config.tree import Path
from tunesmith.config.unbuilt import unbuilt_keys
from tunesmith.config.words import describe
from tunesmith.registry import registry

# Key whose text is a name -> the names that there are.
_NAMED: Mapping[str, Callable[[], Iterable[str]]] = {
    "optimizer": lambda: registry("optimizers"),
    "lr_scheduler": lambda: registry("schedules"),
    "chat_template": template_names,
    "datasets[].chat_template": template_names,
    "datasets[].type": type_names,
    "attn_implementation": lambda: catalog.ATTENTIONS,
}


def can_be(target: Path, value: Any, *, only_built: bool) -> bool:
    """Whether the key at a path takes the value as it is; with ``only_built`` no key does that
    nothing reads yet.
    """
    flat = _plain_flat(target)
    leaf = leaves().get(flat)
    if leaf is None:
        return not only_built and flat in unbuilt_keys() and value_problem(flat, value) is None
    names = _NAMED.get(flat)
    if names is not None and isinstance(value, str) and value not in names():
        return False
    outer = leaves()[leaf.parent].inner if leaf.parent else None
    section: Any = outer or RunConfig.model_fields[leaf.section].annotation
    try:
        section.model_validate({leaf.field: value})
    except ValidationError as error:
        return all(found["loc"][0] != leaf.field for found in error.errors(include_url=False))
    return True


def asks_nothing(target: Path, value: Any) -> bool:
    """Whether the key at a path is not built, and the value leaves it off."""
    known = unbuilt_keys().get(_plain_flat(target))
    return known is not None and known.is_off(value)


def wanted(target: Path) -> str:
    """What the key at a path takes, in words; "" where that is not known."""
    leaf = leaves().get(_plain_flat(target))
    return describe(leaf.annotation) if leaf else ""


def _plain_flat(path: Path) -> str:
    return flat_of(path).replace("test_datasets[]", "datasets[]")
