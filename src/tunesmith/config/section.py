"""``Section``, the frozen base of every part of the config, and ``key``, which declares one key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

When = Callable[..., bool]
"""Does this key have an effect? A predicate on the whole ``RunConfig``; of a key in an entry or
block, on that and the config."""


def arms(annotation: Any) -> Iterator[Any]:
    """The members of a union, flattened and without None; any other annotation is its own arm."""
    if get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from arms(member)
    elif annotation is not type(None):
        yield annotation


def takes(annotation: Any, kind: type) -> bool:
    """Whether values of exactly this type may be given (a literal of that type counts)."""
    return any(
        arm in (kind, Any)
        or (get_origin(arm) is Literal and any(type(value) is kind for value in get_args(arm)))
        for arm in arms(annotation)
    )


class Section(BaseModel):
    """A frozen group of keys. Unknown keys are refused; truth values are never taken for numbers,
    nor numbers or words for truth values. Text is never empty, but in fields of ``may_be_blank``.
    """

    may_be_blank: ClassVar[frozenset[str]] = frozenset()

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )

    @field_validator("*", mode="before")
    @classmethod
    def _keep_booleans_apart(cls, value: Any, info: ValidationInfo) -> Any:
        """The value itself, unless pydantic would turn a truth value into a number or back."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool):
            if not takes(annotation, bool):
                raise PydanticCustomError("not_a_boolean", "a truth value does not fit")
        elif isinstance(value, str | int | float) and takes(annotation, bool):
            others = {str: (str,), int: (int, float), float: (int, float)}[type(value)]
            if not any(takes(annotation, kind) for kind in others):
                raise PydanticCustomError("bool_type", "only a truth value fits")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_blank_text(cls, value: Any, info: ValidationInfo) -> Any:
        """The value itself, unless it is text, or a list with a text, that says nothing."""
        items = value if isinstance(value, list | tuple) else [value]
        blank = any(isinstance(item, str) and not item.strip(" \t") for item in items)
        if blank and info.field_name not in cls.may_be_blank:
            raise PydanticCustomError("string_too_short", "an empty text says nothing")
        return value


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What a key declares beside its type: its flat YAML name, who reads it, when it matters."""

    flat: str | None
    readers: tuple[str, ...]
    when: When | None
    why: str
    alters_training: bool


def key(
    default: Any,
    doc: str,
    *,
    flat: str | None = None,
    readers: str = "",
    when: When | None = None,
    why: str = "",
    alters_training: bool = False,
    **limits: Any,
) -> Any:
    """Declare one key of a section.

    ``flat`` is the dotted YAML name (the field's own name when left out). ``readers`` names the
    modules that read it. ``when`` says whether it has an effect, ``why`` what is missing when it
    has none ("adapter is not set"). ``alters_training`` turns the notice about a dead key into an
    error. ``limits`` are pydantic's own (``gt``, ``ge``, ``le``, ...).
    """
    info = KeyInfo(flat, tuple(readers.split()), when, why, alters_training)
    declared: FieldInfo = Field(default, description=doc, **limits)
    declared.metadata.append(info)
    return declared
