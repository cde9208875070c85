"""The schema in words: types, defaults, and the rows of the reference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tunesmith.config.flat import Leaf, leaves
from tunesmith.config.schema import RunConfig
from tunesmith.config.section import Section
from tunesmith.config.words import describe, number


@dataclass(frozen=True, slots=True)
class Row:
    """One key of the reference: its name, type, bounds and default in words, and its meaning."""

    key: str
    type: str
    default: str
    meaning: str


def written(value: Any) -> str:
    """A value as YAML would have it on one line."""
    if value is PydanticUndefined:
        return "(required)"
    if value is None:
        return "null"
    if isinstance(value, Section):
        value = value.model_dump(exclude_defaults=True)
    if isinstance(value, str):
        return value if value and value.isprintable() else json.dumps(value)
    return json.dumps(value, default=_jsonable)


def _jsonable(value: Any) -> Any:
    return value.model_dump(exclude_defaults=True) if isinstance(value, Section) else str(value)


def type_in_words(leaf: Leaf) -> str:
    """The type of a key with its bounds: ``a whole number, 1 or more``."""
    return ", ".join([describe(leaf.annotation), *_bounds(_declared(leaf))])


def _declared(leaf: Leaf) -> FieldInfo:
    home: Any = RunConfig.model_fields[leaf.section].annotation
    if leaf.parent:
        home = leaves()[leaf.parent].inner
    fields: Mapping[str, FieldInfo] = home.model_fields
    return fields[leaf.field]


def _bounds(declared: FieldInfo) -> list[str]:
    words: list[str] = []
    for item in declared.metadata:
        for name, text in _BOUNDS.items():
            limit: Any = getattr(item, name, None)
            if limit is not None:
                words.append(text.format(number(limit)))
    return words


# pydantic keeps bounds as annotated-types, each with one attribute.
_BOUNDS = {
    "gt": "greater than {}",
    "ge": "{} or more",
    "lt": "less than {}",
    "le": "{} or less",
    "min_length": "not empty",
}


def reference() -> dict[str, list[Row]]:
    """Section -> the rows of its keys, in the schema's order; keys of blocks follow the block."""
    rows: dict[str, list[Row]] = {section: [] for section in RunConfig.model_fields}
    for flat, leaf in leaves().items():
        rows[leaf.section].append(Row(flat, type_in_words(leaf), written(leaf.default), leaf.doc))
    return rows


def markdown(section: str) -> str:
    """The reference page of one section as a Markdown table."""
    home = RunConfig.model_fields[section].annotation
    title = (home.__doc__ or "").strip().splitlines()[0] if home else ""
    lines = [f"## {section}", "", title, "", "| key | type | default | meaning |"]
    lines.append("|---|---|---|---|")
    for row in reference()[section]:
        cells = [f"`{row.key}`", row.type, f"`{row.default}`", row.meaning]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"
