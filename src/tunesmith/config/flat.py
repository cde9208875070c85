"""Flat YAML keys and sections, both ways, derived from the schema: there is no second list.

A *leaf* is one key that users write. Flat names are dotted paths: ``learning_rate``, and for keys
of an entry in a list ``datasets[].path``, for keys of a block ``special_tokens.pad_token``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tunesmith.config.schema import RunConfig
from tunesmith.config.section import KeyInfo, Section, arms


@dataclass(frozen=True, slots=True)
class Leaf:
    """One key: its flat name, its section and field, and what was declared about it.

    ``inner`` is the class of the block that is its value, ``listed`` is true where the value is a
    list of such blocks. ``parent`` is the leaf that it lies in ("" at the top).
    """

    flat: str
    section: str
    field: str
    annotation: Any
    default: Any
    doc: str
    info: KeyInfo
    parent: str
    inner: type[Section] | None
    listed: bool

    @property
    def required(self) -> bool:
        """Whether the key must be given."""
        return self.default is PydanticUndefined

    def has_effect(self, config: Any, block: Section | None = None) -> bool:
        """Whether the key matters in a ``RunConfig`` (or what looks like one); ``block`` is the
        entry or block that it lies in.
        """
        when = self.info.when
        if when is None:
            return True
        return when(block, config) if self.parent else when(config)


def key_info(declared: FieldInfo) -> KeyInfo:
    """What ``key(...)`` remembered of a field."""
    return next(item for item in declared.metadata if isinstance(item, KeyInfo))


@cache
def leaves() -> Mapping[str, Leaf]:
    """Every key by flat name, in the sections' order; the keys of a block follow it."""
    found: dict[str, Leaf] = {}
    for section, declared in RunConfig.model_fields.items():
        inner = declared.annotation
        assert isinstance(inner, type)
        for leaf in _leaves_of(inner, section, parent="", prefix=""):
            if leaf.flat in found:
                raise ValueError(f"two keys are called {leaf.flat}")
            found[leaf.flat] = leaf
    return found


@cache
def top_leaves() -> Mapping[str, Leaf]:
    """The keys that lie in no other key's block."""
    return {flat: leaf for flat, leaf in leaves().items() if not leaf.parent}


@cache
def groups() -> frozenset[str]:
    """The names that are no key, only the first words of dotted keys (``trl`` of ``trl.beta``)."""
    words = set()
    for flat in top_leaves():
        parts = flat.split(".")
        words |= {".".join(parts[:end]) for end in range(1, len(parts))}
    return frozenset(words)


def _leaves_of(section: type[Section], home: str, *, parent: str, prefix: str) -> Iterator[Leaf]:
    for name, declared in section.model_fields.items():
        info = key_info(declared)
        inner, listed = _block(declared.annotation)
        leaf = Leaf(
            flat=prefix + (info.flat or name),
            section=home,
            field=name,
            annotation=declared.annotation,
            default=declared.default,
            doc=declared.description or "",
            info=info,
            parent=parent,
            inner=inner,
            listed=listed,
        )
        yield leaf
        if inner is not None:
            below = leaf.flat + ("[]." if listed else ".")
            yield from _leaves_of(inner, home, parent=leaf.flat, prefix=below)


def _block(annotation: Any) -> tuple[type[Section] | None, bool]:
    """The class of the block in a key's value, and whether it stands in a list."""
    for arm in arms(annotation):
        if isinstance(arm, type) and issubclass(arm, Section):
            return arm, False
        members = get_args(arm) if get_origin(arm) in (tuple, list) else ()
        for member in members:
            if isinstance(member, type) and issubclass(member, Section):
                return member, True
    return None, False


def nest(flat: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Section -> field -> value, of plain values under the flat names of ``top_leaves``."""
    nested: dict[str, dict[str, Any]] = {section: {} for section in RunConfig.model_fields}
    table = top_leaves()
    for name, value in flat.items():
        leaf = table[name]
        nested[leaf.section][leaf.field] = value
    return nested


def dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The same values with the groups of dotted keys opened: ``{"trl": {"beta": 1}}`` becomes
    ``{"trl.beta": 1}``. Blocks that are themselves a key's value stay whole.
    """
    opened: dict[str, Any] = {}
    for name, value in tree.items():
        full = prefix + str(name)
        if full in groups() and isinstance(value, Mapping):
            opened |= dotted(value, full + ".")
        else:
            opened[full] = value
    return opened


def from_flat(flat: Mapping[str, Any]) -> RunConfig:
    """The sections of flat keys, validated.

    Raises:
        pydantic.ValidationError: a value does not fit. `tunesmith.config.read.load` says it in the
            user's words.
    """
    return RunConfig.model_validate(nest(dotted(flat)))


def to_flat(config: RunConfig, *, all: bool = False) -> dict[str, Any]:
    """Flat name -> plain value of the keys that differ from their default, or of all keys.

    ``from_flat(to_flat(config)) == config``. Blocks are dictionaries, tuples are lists.
    """
    flat: dict[str, Any] = {}
    for name, leaf in top_leaves().items():
        value = getattr(getattr(config, leaf.section), leaf.field)
        if all or value != leaf.default:
            flat[name] = _plain(value)
    return flat


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return {
            info.flat or name: _plain(getattr(value, name))
            for name, declared in type(value).model_fields.items()
            if getattr(value, name) != declared.default
            for info in [key_info(declared)]
        }
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value
