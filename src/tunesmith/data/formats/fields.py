"""Reading one field of a row, and saying what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tunesmith.data.records import RowError
from tunesmith.registry import nearest

_SHOWN = 12


def need(row: Mapping[str, Any], name: str, setting: str) -> Any:
    """The field's value, which may be null.

    ``setting`` is the config key that names the field; empty where the format fixes the name.

    Raises:
        RowError: the row has no such field; says which it has, and the nearest.
    """
    if name in row:
        return row[name]
    raise RowError(
        name, f"the row has no field `{name}`; {_listing(row)}", _remedy(row, name, setting)
    )


def need_text(row: Mapping[str, Any], name: str, setting: str) -> str:
    """The field's text.

    Raises:
        RowError: the field is missing, null, or no text.
    """
    value = need(row, name, setting)
    if value is None:
        raise RowError(name, "is null", "give it a text, or remove the row")
    return as_text(value, name)


def optional_text(row: Mapping[str, Any], name: str) -> str:
    """The field's text; empty where the row has none or null.

    Raises:
        RowError: the field is there and no text.
    """
    value = row.get(name)
    return "" if value is None else as_text(value, name)


def need_list(row: Mapping[str, Any], name: str, setting: str = "") -> list[Any]:
    """The field's list, which has something in it.

    Raises:
        RowError: the field is missing, no list, or an empty one.
    """
    value = need(row, name, setting)
    if not isinstance(value, list | tuple):
        raise RowError(name, f"is {kind_of(value)}, want a list", "write it as a list: [...]")
    if not value:
        raise RowError(name, "is an empty list", "fill the list, or remove the row")
    return list(value)


def need_text_list(row: Mapping[str, Any], name: str) -> list[str]:
    """The field's list of texts.

    Raises:
        RowError: the field is missing, no list, empty, or a part of it is no text.
    """
    listed = need_list(row, name)
    return [as_text(part, f"{name}[{number}]") for number, part in enumerate(listed)]


def need_object(value: Any, place: str, fix: str) -> Mapping[str, Any]:
    """The value, which must be an object.

    Raises:
        RowError: it is something else.
    """
    if isinstance(value, Mapping):
        return value
    raise RowError(place, f"is {kind_of(value)}, not an object", fix)


def need_flag(row: Mapping[str, Any], name: str, setting: str = "") -> bool:
    """The field's true or false; nothing else is taken for it.

    Raises:
        RowError: the field is missing or something else.
    """
    value = need(row, name, setting)
    if isinstance(value, bool):
        return value
    raise RowError(name, f"is {kind_of(value)}, want true or false", "write true or false")


def as_text(value: Any, name: str) -> str:
    """The value, which must be a text.

    Raises:
        RowError: it is something else.
    """
    if isinstance(value, str):
        return value
    raise RowError(name, f"is {kind_of(value)}, want text", "write it as a text in quotes")


def is_whole(value: Any) -> bool:
    """Whether it is a whole number, which true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def kind_of(value: Any) -> str:
    """What a JSON value is, in a word with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, int | float):
        return f"a number ({str(value)[:20]})"
    if isinstance(value, Mapping):
        return "an object"
    return "a list" if isinstance(value, list | tuple) else f"a {type(value).__name__}"


def without_nulls(value: Any) -> Any:
    """The value without keys that are null, at any depth.

    Columnar files give every turn the keys of all turns, null where a turn has none.
    """
    if isinstance(value, Mapping):
        return {name: without_nulls(part) for name, part in value.items() if part is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(part) for part in value]
    return value


def name_list(names: Iterable[str]) -> str:
    """Names in backticks, the first dozen of them."""
    names = list(names)
    shown = ", ".join(f"`{name}`" for name in names[:_SHOWN])
    return f"{shown}, and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def _listing(row: Mapping[str, Any]) -> str:
    return f"it has {name_list(row)}" if row else "it has no fields at all"


def _remedy(row: Mapping[str, Any], name: str, setting: str) -> str:
    if near := nearest(name, row):
        choice = f"set `{setting}: {near}`" if setting else "write `type` as a mapping of fields"
        return f"did you mean `{near}`? Rename the field, or {choice}"
    for outer, value in row.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping) and name in value[0]:
            return f"the rows are inside of `{outer}`: write them one by one as the file's rows"
    if "input_ids" in row:
        return "the rows are tokenized: leave `type` out, or set `type: pretokenized`"
    if setting:
        return f"set `{setting}` to one of the row's fields, or choose another `type`"
    return "choose the `type` that these rows have, or write `type` as a mapping of fields"
