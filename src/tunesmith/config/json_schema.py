"""The JSON schema of the YAML, for editors and validators: it knows what ``config validate`` knows
of single keys. Rules between keys are not in it.
"""

from __future__ import annotations

from typing import Any

from tunesmith.config.flat import Leaf, leaves, top_leaves
from tunesmith.config.kind_docs import OFF, kind_schema
from tunesmith.config.schema import RunConfig
from tunesmith.config.section import takes
from tunesmith.config.support import KeyState, old_keys, state_of
from tunesmith.registry import KINDS, registry

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# Keys whose value is a name in a table; other values may be right (a user's own class or module).
_NAMES = {"optimizer": "optimizers", "lr_scheduler": "schedules", "datasets[].type": "formats"}


def _any_case(word: str) -> str:
    return "".join(f"[{letter.upper()}{letter}]" for letter in word)


# Words that are read as truth values and numbers in quotes: right, if not how it is written today.
_TRUTH_WORD = {
    "type": "string",
    "pattern": f"^({'|'.join(map(_any_case, ('yes', 'no', 'on', 'off', 'true', 'false')))})$",
    "deprecated": True,
}
_QUOTED_NUMBER = {"type": "string", "pattern": "^[-+]?[0-9][0-9_.eE+-]*$", "deprecated": True}


def json_schema() -> dict[str, Any]:
    """The JSON schema of a config: types, bounds, words, meanings; old keys are ``deprecated``."""
    properties: dict[str, Any] = {"$schema": {"type": "string", "description": "This schema."}}
    definitions: dict[str, Any] = {}
    required: list[str] = []
    for section, declared in RunConfig.model_fields.items():
        home = declared.annotation
        assert home is not None
        schema: dict[str, Any] = home.model_json_schema()
        definitions |= schema.get("$defs", {})
        for leaf in top_leaves().values():
            if leaf.section == section:
                _place(properties, leaf.flat, _of_key(schema["properties"][leaf.field], leaf))
                if leaf.required:
                    required.append(leaf.flat)
    _inside_blocks(definitions)
    for key in old_keys():
        if "[" not in key:
            _place(properties, key, _of_old_key(key, state_of(key), properties))
    return {
        "$schema": DIALECT,
        "title": "tunesmith run",
        "type": "object",
        "properties": properties,
        "patternProperties": {"^x-": {"description": "Only holds anchors."}},
        "required": required,
        "additionalProperties": False,
        "$defs": definitions,
    }


def _inside_blocks(definitions: dict[str, Any]) -> None:
    """Make the keys of blocks what they are in YAML: flat names, null allowed, old keys known."""
    done: set[str] = set()
    for leaf in leaves().values():
        if leaf.inner is None or leaf.inner.__name__ in done:
            continue
        done.add(leaf.inner.__name__)
        definition = definitions[leaf.inner.__name__]
        below = leaf.flat + ("[]." if leaf.listed else ".")
        declared = definition["properties"]
        definition["properties"] = properties = {
            one.flat.removeprefix(below): _of_key(declared[one.field], one)
            for one in leaves().values()
            if one.parent == leaf.flat
        }
        definition["additionalProperties"] = False
        for key in old_keys():
            name = key.removeprefix(below)
            if key.startswith(below) and "." not in name:
                properties[name] = _of_old_key(key, state_of(key), properties, below)


def _of_key(schema: dict[str, Any], leaf: Leaf) -> dict[str, Any]:
    """The schema of a key: null leaves it unset unless it is required, ``on`` means true, one entry
    may stand for a list, a name of a table is offered.
    """
    schema = _without_titles(schema)
    around = {name: schema.pop(name) for name in ("description", "default") if name in schema}
    options: list[dict[str, Any]] = schema.pop("anyOf", [schema] if schema else [{}])
    if takes(leaf.annotation, bool):
        options = [*options, dict(_TRUTH_WORD)]
    elif takes(leaf.annotation, int) or takes(leaf.annotation, float):
        options = [*options, dict(_QUOTED_NUMBER)]
    if leaf.listed:
        options = [_entries(options[0]), *_entries(options[0])["items"]["anyOf"], *options[1:]]
    table = _NAMES.get(leaf.flat.replace("test_datasets", "datasets"))
    if table is not None:
        names = {"enum": sorted(registry(table)), "description": f"a known {KINDS[table]}"}
        options = [names, *options]
    if not leaf.required and {"type": "null"} not in options:
        options = [*options, {"type": "null"}]
    inside = options[0] if len(options) == 1 else {"anyOf": options}
    return inside | around


def _entries(schema: dict[str, Any]) -> dict[str, Any]:
    """A list of blocks, in which a text stands for a block with that path."""
    path = {"type": "string", "deprecated": True, "description": "The path alone."}
    items = schema["items"]
    return {**schema, "items": items if "anyOf" in items else {"anyOf": [items, path]}}


def _of_old_key(
    key: str, state: KeyState | None, properties: dict[str, Any], below: str = ""
) -> dict[str, Any]:
    """What an old key may hold: what today's key may, or anything where it is left out; of
    one that is not built, what its kind takes.
    """
    assert state is not None
    if state.state == "not built":
        return {**kind_schema(key), "description": f"Not built yet: {state.what}."}
    if state.state == "refused":
        return {"enum": OFF, "deprecated": True, "description": f"Refused: {state.what}."}
    if state.state == "left out":
        return {"deprecated": True, "description": f"Left out: {state.what}."}
    today = properties.get(state.today.removeprefix(below), {})
    same = today if state.what == f"`{state.today.removeprefix(below)}`" else {}
    return {**same, "deprecated": True, "description": f"Old: read as {state.what}."}


def _place(properties: dict[str, Any], flat: str, schema: dict[str, Any]) -> None:
    """Put a key's schema under its dotted name, opening objects for the groups on the way."""
    *outer, name = flat.split(".")
    for word in outer:
        block = {"type": ["object", "null"], "properties": {}, "additionalProperties": False}
        properties = properties.setdefault(word, block)["properties"]
    properties[name] = schema


def _without_titles(schema: Any) -> Any:
    if isinstance(schema, dict):
        inside = {name: _without_titles(item) for name, item in schema.items()}
        return {name: item for name, item in inside.items() if name != "title"}
    return [_without_titles(item) for item in schema] if isinstance(schema, list) else schema
