"""Two recipes of the cache side by side: what differs, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith.data.fingerprint import Recipe

_WORDS: Mapping[str, str] = {
    "layout": "the layout of the cache",
    "code": "tunesmith's own code",
    "format": "the code of the module that reads the rows, or of one that it imports",
    "render.digest": "",  # its parts are told one by one
    "render.tokenizer_digest": "the tokenizer",
    "render.template.0": "the chat template's name",
    "render.template.1": "the chat template's text",
    "left_out": "files of the folder that are not read",
    "given": "rows in memory, or the splits that are taken",
    "parameters.weigh": "the objective's weights",
    "parameters.longest": "sequence_len",
}
"""Place in a recipe -> what it is; "" is not told."""

_LONGEST = 60
_HASH = 64
"""Letters of a SHA-256."""


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
        if was == is_now:
            continue
        listed = _listed(place)
        if listed and (listed not in old or listed not in new):
            # A data set that only one of them has is one difference, not one for each of its keys.
            found.append(Difference("data set", old.get(listed), new.get(listed)))
        elif what := _name(place, new, old):
            found.append(Difference(what, _short(was), _short(is_now)))
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
        yield place, value if isinstance(value, str) else repr(value)


def _listed(place: str) -> str:
    """The path's place of the data set that a place is inside of, or ""."""
    parts = place.split(".", 2)
    return f"datasets.{parts[1]}.entry.path" if parts[0] == "datasets" and len(parts) == 3 else ""


def _short(text: str | None) -> str | None:
    """A value as it is shown: a hash by its beginning, and nothing at great length."""
    if text is not None and len(text) == _HASH and set(text) <= set("0123456789abcdef"):
        return text[:12]
    return text if text is None or len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _name(place: str, *recipes: Mapping[str, str]) -> str:
    """The words for a place; for a place inside of a data set, its path before them."""
    if listed := _listed(place):
        inner = _name(place.split(".", 2)[2])
        where = next(recipe[listed] for recipe in recipes if listed in recipe)
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
