"""The types of keys that are not built yet, in words and as JSON schema."""

from __future__ import annotations

from typing import Any

from tunesmith.config.kinds import BOUNDS, NAMES, TYPES, inner_keys, kinds, plain_key
from tunesmith.config.unbuilt import FSDP1_ONLY, RL_METHODS
from tunesmith.config.words import number

OFF: list[Any] = [None, False, 0, "", [], {}]
"""What asks for nothing, whatever the key."""

_JSON_TYPES = {"flag": "boolean", "text": "string", "list": "array", "map": "object"}


def kind_in_words(flat: str) -> str:
    """The type of a key with its bounds, names or inner keys; "" where anything may stand."""
    key = plain_key(flat)
    kind = kinds().get(key, "text")
    names = _names(key)
    if kind in BOUNDS:
        least, most, closed, whole = BOUNDS[kind]
        words = ["a whole number" if whole else "a number"]
        if kind == "share":
            words.append(f"{number(least)} to {number(most)}")
        elif least > -most:
            words.append(f"{number(least)} or more" if closed else f"greater than {number(least)}")
        return ", ".join(words)
    called = TYPES[kind][1] if kind in TYPES and not (names and kind != "flag") else ""
    inside = inner_keys(key) or inner_keys(f"{key}[]")
    if inside:
        entries = "" if inner_keys(key) else " of mappings"
        return f"{called}{entries} with {', '.join(f'`{name}`' for name in inside)}"
    listed = f"one of {', '.join(names)}" if names else ""
    return " or ".join(part for part in (called, listed) if part)


def kind_schema(flat: str) -> dict[str, Any]:
    """The JSON schema of a key's value. It accepts what the reader accepts: what asks for nothing
    too, and numbers in quotes.
    """
    key = plain_key(flat)
    kind, names = kinds().get(key, "text"), _names(key)
    options: list[dict[str, Any]] = [{"enum": OFF}]
    if names:
        allowed = {"enum": [*names, *(int(name) for name in names if name.isdigit())]}
        options += [allowed, {"type": "array", "items": allowed}]
        options += [{"type": "boolean"}] if kind == "flag" else []
    elif kind in BOUNDS:
        options += _numbers(kind)
    elif kind == "words":
        options += [{"type": "array"}, {"type": "string"}]
    elif kind in _JSON_TYPES:
        options.append({"type": _JSON_TYPES[kind], **_inside(key)})
        options += [{"type": "string"}] if kind == "flag" else []  # `on`, and "true" in quotes
    else:
        return {}
    return {"anyOf": options}


def _numbers(kind: str) -> list[dict[str, Any]]:
    least, most, closed, whole = BOUNDS[kind]
    bound = "minimum" if closed else "exclusiveMinimum"
    quoted = {"type": "string", "pattern": "^[-+]?[0-9.]"}
    return [{"type": "integer" if whole else "number", bound: least, "maximum": most}, quoted]


def _names(key: str) -> list[str]:
    return list(RL_METHODS) if key == "rl" else NAMES.get(key, "").split()


def _inside(key: str) -> dict[str, Any]:
    """The keys of a block, or of the entries of a list; nothing where it is free-form."""
    if inner_keys(f"{key}[]"):
        return {"items": {"type": "object", **_inside(f"{key}[]")}}
    inside = inner_keys(key)
    if not inside:
        return {}
    properties = {name: kind_schema(f"{key}.{name}") for name in inside}
    if key == "fsdp_config":
        properties |= {f"fsdp_{name}": schema for name, schema in properties.items()}
    gone = {name.rpartition(".")[2] for name in FSDP1_ONLY if name.startswith(f"{key}.")}
    properties |= {name: {"deprecated": True} for old in gone for name in (old, f"fsdp_{old}")}
    return {"properties": properties, "additionalProperties": False}
