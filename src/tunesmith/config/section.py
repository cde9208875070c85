"""``Section``, the frozen base of every part of the config, and ``key``, which declares one key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

When = Callable[[Any], bool]
"""A predicate on the whole ``RunConfig``: does this key have an effect there?"""


class Section(BaseModel):
    """A frozen group of keys. Unknown keys are refused; values are never coerced in silence."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, arbitrary_types_allowed=False)


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What a key declares beside its type: its flat YAML name, who reads it, when it matters."""

    flat: str | None
    readers: tuple[str, ...]
    when: When | None
    why: str
    since: str
    alters_training: bool


def key(
    default: Any,
    doc: str,
    *,
    flat: str | None = None,
    readers: str = "",
    when: When | None = None,
    why: str = "",
    since: str = "0.1",
    alters_training: bool = False,
    **limits: Any,
) -> Any:
    """Declare one key of a section.

    ``flat`` is the dotted YAML name (the field's own name when left out). ``readers`` names the
    modules that read it. ``when`` says whether it has an effect, ``why`` what is missing when it has
    none ("adapter is not set"). ``alters_training`` turns the notice about a dead key into an error.
    ``limits`` are pydantic's own (``gt``, ``ge``, ``le``, ...).
    """
    info = KeyInfo(flat, tuple(readers.split()), when, why, since, alters_training)
    declared: FieldInfo = Field(default, description=doc, **limits)
    declared.metadata.append(info)
    return declared
