"""The schema in words: JSON schema, reference tables, and the explanation of one key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tunesmith.config.flat import Leaf, leaves, top_leaves
from tunesmith.config.names import suggest
from tunesmith.config.read import LoadedConfig
from tunesmith.config.schema import RunConfig
from tunesmith.config.section import Section
from tunesmith.config.unbuilt import unbuilt_keys
from tunesmith.config.words import describe, number
from tunesmith.errors import ConfigError

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True, slots=True)
class Row:
    """One key of the reference: its name, type, bounds and default in words, and its meaning."""

    key: str
    type: str
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a key means, and what it is in a config.

    ``value``, ``source`` and ``effect`` are empty where no config was given; ``needs`` says when
    the key has an effect at all ("" for always).
    """

    key: str
    section: str
    meaning: str
    type: str
    default: str
    readers: tuple[str, ...]
    needs: str
    value: str = ""
    source: str = ""
    effect: str = ""

    def to_json(self) -> dict[str, Any]:
        """The explanation as plain data."""
        return asdict(self)


def written(value: Any) -> str:
    """A value as YAML would have it on one line."""
    if value is PydanticUndefined:
        return "(required)"
    if value is None:
        return "null"
    if isinstance(value, Section):
        value = value.model_dump(exclude_defaults=True)
    if isinstance(value, str):
        return value if value else '""'
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


def json_schema() -> dict[str, Any]:
    """The JSON schema of the YAML: flat keys, with descriptions, for editors and validators."""
    properties: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    required: list[str] = []
    for section, declared in RunConfig.model_fields.items():
        home = declared.annotation
        assert home is not None
        schema: dict[str, Any] = home.model_json_schema()
        definitions |= schema.get("$defs", {})
        for leaf in top_leaves().values():
            if leaf.section == section:
                _place(properties, leaf.flat, _nullable(schema["properties"][leaf.field], leaf))
                if leaf.required:
                    required.append(leaf.flat)
    for definition in definitions.values():
        definition["additionalProperties"] = False
    return {
        "$schema": SCHEMA_DIALECT,
        "title": "tunesmith run",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
        "$defs": definitions,
    }


def _place(properties: dict[str, Any], flat: str, schema: dict[str, Any]) -> None:
    """Put a key's schema under its dotted name, opening objects for the groups on the way."""
    *outer, name = flat.split(".")
    for word in outer:
        group = properties.setdefault(
            word, {"type": "object", "properties": {}, "additionalProperties": False}
        )
        properties = group["properties"]
    properties[name] = schema


def _nullable(schema: dict[str, Any], leaf: Leaf) -> dict[str, Any]:
    """The schema of a key that may be left empty (null) unless it is required."""
    schema = {name: item for name, item in schema.items() if name != "title"}
    options = schema.get("anyOf")
    if leaf.required or (options and {"type": "null"} in options):
        return schema
    kept: dict[str, Any] = {}
    for name in ("description", "default"):
        if name in schema:
            kept[name] = schema.pop(name)
    return {"anyOf": [*(options or [schema]), {"type": "null"}]} | kept


def keys_like(pattern: str = "") -> list[Row]:
    """The rows of the keys whose name or meaning holds the pattern, whatever its case."""
    wanted = pattern.lower().replace("-", "_")
    return [
        row
        for rows in reference().values()
        for row in rows
        if wanted in row.key.lower() or pattern.lower() in row.meaning.lower()
    ]


def explain(key: str, loaded: LoadedConfig | None = None) -> Explanation:
    """What a key means and, with a config, what it is there, who set it, and whether it matters.

    ``key`` may be in kebab case and may hold list positions (``datasets.0.path``).

    Raises:
        ConfigError: there is no such key.
    """
    flat = _schema_name(key)
    leaf = leaves().get(flat)
    if leaf is None:
        raise _no_such_key(key, flat)
    explanation = Explanation(
        key=flat,
        section=leaf.section,
        meaning=leaf.doc,
        type=type_in_words(leaf),
        default=written(leaf.default),
        readers=leaf.info.readers,
        needs=leaf.info.why if leaf.info.when else "",
    )
    return explanation if loaded is None else _with_value(explanation, leaf, key, loaded)


def _with_value(
    explanation: Explanation, leaf: Leaf, key: str, loaded: LoadedConfig
) -> Explanation:
    top = leaf
    while top.parent:
        top = leaves()[top.parent]
    written_as = key.replace("-", "_")
    source = str(loaded.sources.get(written_as, loaded.sources[top.flat]))
    if leaf.info.when is None:
        effect = "always read"
    elif leaf.info.when(loaded.config):
        effect = "read in this config"
    else:
        effect = f"has no effect here: {leaf.info.why}"
    value = getattr(getattr(loaded.config, top.section), top.field)
    for part in written_as.split(".")[len(top.flat.split(".")) :]:
        value = _step(value, part)
    return replace(explanation, value=written(value), source=source, effect=effect)


def _step(value: Any, part: str) -> Any:
    if part.isdigit() and isinstance(value, tuple):
        return value[int(part)] if int(part) < len(value) else None
    return getattr(value, part, None)


def _schema_name(key: str) -> str:
    parts: list[str] = []
    for part in key.replace("-", "_").split("."):
        if part.isdigit() and parts:
            parts[-1] += "[]"
        else:
            parts.append(part)
    name = ".".join(parts)
    listed = name.replace("datasets.", "datasets[].", 1)
    return listed if name not in leaves() and listed in leaves() else name


def _no_such_key(key: str, flat: str) -> ConfigError:
    if flat in unbuilt_keys():
        capability = unbuilt_keys()[flat].capability
        return ConfigError(
            f"{key} belongs to what is not built yet: {capability}", hint="leave it out", where=key
        )
    prefix, dot, name = flat.rpartition(".")
    meant = suggest(name, prefix + dot)
    hint = f"did you mean `{prefix}{dot}{meant}`?" if meant else "`tunesmith config keys` lists all"
    return ConfigError(f"there is no key `{key}`", hint=hint, where=key)
