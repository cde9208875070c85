"""What pydantic found wrong, in the words of the user: flat keys, plain types, the bound itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic_core import ErrorDetails

from tunesmith.config.flat import Leaf, leaves
from tunesmith.config.section import Section, arms
from tunesmith.config.tree import Path
from tunesmith.errors import REMOVE, Edit, Problem
from tunesmith.registry import nearest

_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("must be greater than {}", "gt"),
    "greater_than_equal": ("must be {} or more", "ge"),
    "less_than": ("must be less than {}", "lt"),
    "less_than_equal": ("must be {} or less", "le"),
    "multiple_of": ("must be a multiple of {}", "multiple_of"),
}
_EMPTY = {"string_too_short", "too_short"}
_TRUTH = {"true": True, "false": False}
_SHORT_TRUTH = {"1": True, "y": True, "t": True, "0": False, "n": False, "f": False}


def describe(annotation: Any) -> str:
    """A type in words: ``a number``, ``text or a list of text``, ``no, steps or epoch``."""
    words: list[str] = []
    simple_first = sorted(arms(annotation), key=lambda arm: get_origin(arm) is not None)
    for arm in simple_first:
        for word in _arm_words(arm):
            if word not in words:
                words.append(word)
    return listed(words)


def listed(words: Sequence[str]) -> str:
    """``a, b or c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _arm_words(arm: Any) -> list[str]:
    if get_origin(arm) is Literal:
        return [f"`{value}`" for value in get_args(arm)]
    plain = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    if arm in plain:
        return [plain[arm]]
    if get_origin(arm) in (list, tuple):
        inner = describe(get_args(arm)[0])
        return [f"a list of {_PLURAL.get(inner, inner)}"]
    if get_origin(arm) is dict or (isinstance(arm, type) and issubclass(arm, Section | Mapping)):
        return ["a mapping"]
    return ["anything"]


_PLURAL = {"a mapping": "mappings", "a number": "numbers", "a whole number": "whole numbers"}


def given(value: Any) -> str:
    """A value as it should be repeated to the user, short."""
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    text = str(value)
    return f"`{text[:60]}...`" if len(text) > 60 else f"`{text}`"


def edit_in_words(edit: Edit) -> str:
    """An edit as a sentence: ``use `bf16: auto` and take `fp16` out``."""
    kept = [f"`{key}: {_yaml(value)}`" for key, value in edit.items() if value is not REMOVE]
    gone = [f"`{key}`" for key, value in edit.items() if value is REMOVE]
    parts = [f"use {' and '.join(kept)}"] if kept else []
    parts += [f"take {' and '.join(gone)} out"] if gone else []
    return " and ".join(parts)


def _yaml(value: Any) -> str:
    """A value on one line as YAML has it."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def number(value: float) -> str:
    """A bound as people write it: no decimals where there are none, large ones in groups."""
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def key_of(location: Sequence[int | str]) -> tuple[str, Path]:
    """The flat name and the path in the user's YAML of pydantic's location of an error.

    The names that pydantic adds for members of a union are left out.
    """
    section, field, *rest = location
    leaf = next(
        item
        for item in leaves().values()
        if not item.parent and item.section == section and item.field == field
    )
    path: list[str | int] = list(leaf.flat.split("."))
    for part in rest:
        if isinstance(part, int):
            path.append(part)
            continue
        below = leaf.flat + ("[]." if leaf.listed else ".")
        child = next(
            (i for i in leaves().values() if i.parent == leaf.flat and i.field == part), None
        )
        if child is not None:
            leaf = child
            path.append(child.flat[len(below) :])
    return leaf.flat, tuple(path)


def problems_of(errors: Sequence[ErrorDetails]) -> list[tuple[Path, Problem]]:
    """One problem for each wrong value, with its path; places are added by the caller."""
    grouped: dict[Path, list[ErrorDetails]] = {}
    flats: dict[Path, str] = {}
    for error in errors:
        flat, path = key_of(error["loc"])
        grouped.setdefault(path, []).append(error)
        flats[path] = flat
    outer = {path[:n] for path in grouped for n in range(1, len(path))} & grouped.keys()
    opened = {path for path in outer if isinstance(grouped[path][0].get("input"), Mapping)}
    shut = outer - opened  # what is wrong as a whole is not looked into
    return [
        (path, _problem(leaves()[flats[path]], path, found))
        for path, found in grouped.items()
        if path not in opened and not any(path[:n] in shut for n in range(1, len(path)))
    ]


def _problem(leaf: Leaf, path: Path, errors: Sequence[ErrorDetails]) -> Problem:
    key = ".".join(str(part) for part in path)
    by_type = {error["type"]: error for error in errors}
    value = errors[0].get("input")
    if "missing" in by_type:
        return Problem("missing", "must be given", f"add `{path[-1]}:` - {leaf.doc}", key=key)
    fallback = _taken_out(leaf, key)
    for kind, (text, bound) in _BOUNDS.items():
        if kind in by_type:
            limit = (by_type[kind].get("ctx") or {})[bound]
            message = f"{text.format(number(limit))}, not {given(value)}"
            fix, edit = (f"use `{limit}`", {key: limit}) if bound == "ge" else fallback
            return Problem("out-of-range", message, fix, key=key, edit=edit)
    if _EMPTY & by_type.keys():
        fix = f"give it: {leaf.doc}" if leaf.required else f"take it out, or give it: {leaf.doc}"
        return Problem("out-of-range", "must not be empty", fix, key=key, edit=fallback[1])
    fix, edit = fallback
    if "finite_number" in by_type:
        message = f"must be a finite number, not {given(value)}"
        return Problem("out-of-range", message, fix, key=key, edit=edit)
    wanted = _item_type(leaf, path)
    message = f"must be {describe(wanted)}, not {_given_list(value)}"
    names = _literals(wanted)
    if isinstance(value, str):
        if meant := nearest(value, [*names, *(_TRUTH if bool in arms(wanted) else ())]):
            fix, edit = f"did you mean `{meant}`?", {key: _TRUTH.get(meant, meant)}
        if names:
            return Problem("out-of-range", message, fix, key=key, edit=edit)
    if _only_truth(wanted) and (meant_truth := _SHORT_TRUTH.get(str(value).lower())) is not None:
        fix, edit = f"write `{str(meant_truth).lower()}`", {key: meant_truth}
    elif flattened := _flattened(value):
        fix, edit = f"write `[{', '.join(flattened)}]`", {key: flattened}
    elif better := _type_fix(wanted, value):
        fix, edit = better, {}
    return Problem("wrong-type", message, fix, key=key, edit=edit)


def _only_truth(wanted: Any) -> bool:
    return list(arms(wanted)) == [bool]


def _given_list(value: Any) -> str:
    """A value as ``given`` has it; of a list, with an item that is no text."""
    odd = [item for item in value if not isinstance(item, str)] if isinstance(value, list) else []
    return f"a list with {given(odd[0])} in it" if odd else given(value)


def _flattened(value: Any) -> list[str]:
    """The texts of a list whose items are lists of text; none of any other value."""
    if not isinstance(value, list) or not all(isinstance(item, list) for item in value):
        return []
    flat = [text for item in value for text in item]
    return flat if all(isinstance(text, str) for text in flat) else []


def _taken_out(leaf: Leaf, key: str) -> tuple[str, Edit]:
    """What to do with a wrong value that says nothing of the right one."""
    if leaf.required:
        return f"write {describe(leaf.annotation)}: {leaf.doc}", {}
    instead = "" if leaf.default in (None, ()) else f" (it is {given(leaf.default)} then)"
    return f"correct it, or take it out{instead}", {key: REMOVE}


def _item_type(leaf: Leaf, path: Path) -> Any:
    """The type of the value at the path: of the items where the path ends inside a plain list."""
    if not isinstance(path[-1], int):
        return leaf.annotation
    items = [get_args(arm)[0] for arm in arms(leaf.annotation) if get_origin(arm) in (list, tuple)]
    return items[0] if items else leaf.annotation


def _literals(annotation: Any) -> list[str]:
    if get_origin(annotation) in (Union, UnionType) or get_origin(annotation) is Literal:
        return [
            str(value)
            for arm in arms(annotation)
            if get_origin(arm) is Literal
            for value in get_args(arm)
        ]
    return []


def _type_fix(wanted: Any, value: Any) -> str:
    kinds = [arm if isinstance(arm, type) else get_origin(arm) for arm in arms(wanted)]
    takes_list = list in kinds or tuple in kinds
    if str in kinds and isinstance(value, int | float):
        return f"put it in quotes: '{str(value).lower() if isinstance(value, bool) else value}'"
    if str in kinds and isinstance(value, list) and len(value) == 1:
        return f"write {given(value[0])}"
    if takes_list and isinstance(value, Mapping):
        return "begin each entry with `- `"
    if takes_list and isinstance(value, str):
        return f"write `[{value}]`"
    if any(isinstance(kind, type) and issubclass(kind, Section | Mapping) for kind in kinds):
        return "write its keys below it, each on a line of its own"
    if isinstance(value, str) and "#" in value:
        return "put a space before `#` if a comment begins there"
    return ""
