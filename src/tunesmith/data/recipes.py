"""Two recipes of the cache side by side: what differs, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith.data.fingerprint import Recipe

_WORDS: Mapping[str, str] = {
    "layout": "the layout of the cache",
    "code": "tunesmith's own code",
    "format": "the code of the module that reads the rows",
    "render.digest": "",  # its parts are told one by one
    "render.tokenizer_digest": "the tokenizer",
    "render.template.0": "the chat template's name",
    "render.template.1": "the chat template's text",
    "given": "rows in memory, or the splits that are taken",
    "parameters.weigh": "the objective's weights",
    "parameters.longest": "sequence_len",
}
"""Place in a recipe -> what it is; "" is not told."""

_LONGEST = 60


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that two recipes have differently; None where one of them lacks it."""

    what: str
    before: str | None
    now: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.what}: {self.now} is new"
        if self.now is None:
            return f"{self.what}: {self.before} is gone"
        return f"{self.what}: {self.before} -> {self.now}"


@dataclass(frozen=True, slots=True)
class Nearest:
    """The kept recipe that differs least from the one asked for."""

    key: str
    differences: tuple[Difference, ...]


def differences(before: Recipe, now: Recipe) -> tuple[Difference, ...]:
    """What differs between two recipes, in the order of the newer one."""
    old, new = dict(_leaves(before)), dict(_leaves(now))
    found = []
    for place in dict.fromkeys([*new, *old]):
        was, is_now = old.get(place), new.get(place)
        if was != is_now and (what := _name(place, new, old)):
            found.append(Difference(what, was, is_now))
    return tuple(dict.fromkeys(found))  # a length decides in two places, and is told once


def find_nearest(kept: Mapping[str, Recipe], wanted: Recipe) -> Nearest | None:
    """The recipe with the fewest differences; of equal ones the first. None where there is none."""
    if not kept:
        return None
    compared = [Nearest(key, differences(recipe, wanted)) for key, recipe in kept.items()]
    return min(compared, key=lambda one: len(one.differences))


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """(dotted place, value as text) of everything that is no block. Files go by their names."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _leaves(part, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list) and place.rsplit(".", 1)[-1] == "files":
        for name, digest in value:
            yield f"{place}[{name}]", str(digest)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _leaves(part, f"{place}.{number}")
    else:
        yield place, _short(value)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _name(place: str, *recipes: Mapping[str, str]) -> str:
    """The words for a place; for a place inside of a data set, its path before them."""
    parts = place.split(".", 2)
    if parts[0] == "datasets" and len(parts) == 3:
        paths = (recipe.get(f"datasets.{parts[1]}.entry.path") for recipe in recipes)
        inner = _name(parts[2])
        where = next((path for path in paths if path is not None), parts[1])
        return f"{where}: {inner}" if inner else ""
    if place.startswith("files["):
        return f"the bytes of {place[6:-1]}"
    known = _WORDS.get(place)
    if known is not None:
        return known
    for prefix in ("entry.", "render.", "parameters."):
        if place.startswith(prefix):
            return place.removeprefix(prefix)
    return place
