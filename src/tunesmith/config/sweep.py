"""A sweep file -> the runs that it asks for: each is a name and overrides of the config.

The file maps keys to lists of values; the runs are all combinations. Under ``_`` stands a list of
mappings whose keys go together: each of them is combined with all the others. The order is drawn
once, always the same, so that an interrupted sweep has seen a bit of everything.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from tunesmith.config.draft import dotted_path
from tunesmith.config.overrides import Override
from tunesmith.config.read import read_text
from tunesmith.config.splice import Text, written
from tunesmith.config.tree import Path, Tree, read_tree
from tunesmith.errors import ConfigError, Problem

PAIRED = "_"
"""The key of the list of mappings whose keys go together."""

MAX_RUNS = 1000
_ORDER_SEED = 42


@dataclass(frozen=True, slots=True)
class SweepRun:
    """One run of a sweep: its name, which is its folder's too, and the keys that it sets."""

    name: str
    overrides: tuple[Override, ...]

    @property
    def values(self) -> dict[str, Any]:
        """The keys and their values, as plain data."""
        return {override.key: override.value for override in self.overrides}


def read_sweep(path: str) -> tuple[SweepRun, ...]:
    """The runs of a sweep file, in the order in which they start.

    Raises:
        ConfigError: the file cannot be read or is no mapping of keys to lists, with every problem.
    """
    name, text = read_text(path)
    tree = read_tree(text, name)
    problems = tree.problems or list(_problems(tree, text, name))
    if problems:
        first = problems[0]
        raise ConfigError(
            f"{first.key}: {first.message}" if first.key else first.message,
            hint=first.fix,
            where=first.place or name,
            problems=problems,
        )
    grid = {key: values for key, values in tree.values.items() if key != PAIRED}
    choices = [
        [[_override(tree, (key, i), key, value)] for i, value in enumerate(values)]
        for key, values in grid.items()
    ]
    paired = tree.values.get(PAIRED) or []
    if paired:
        choices.insert(0, [_together(tree, number, block) for number, block in enumerate(paired)])
    runs = [tuple(one for part in parts for one in part) for parts in product(*choices)]
    random.Random(_ORDER_SEED).shuffle(runs)
    return tuple(SweepRun(f"sweep{number:04d}", found) for number, found in enumerate(runs))


def _together(tree: Tree, number: int, block: Mapping[str, Any]) -> list[Override]:
    return [_override(tree, (PAIRED, number, key), key, value) for key, value in block.items()]


def _override(tree: Tree, path: Path, key: str, value: Any) -> Override:
    return Override(key, value, str(tree.places[path]))


def _problems(tree: Tree, text: str, file: str) -> Iterator[Problem]:
    """What is wrong with the shape of a sweep file."""
    values = tree.values
    if not isinstance(values, dict) or not values:
        yield Problem(
            "yaml", "a sweep maps keys to lists of values", "`lora_r: [8, 16]`", file=file
        )
        return
    for key, listed in values.items():
        if not isinstance(listed, list) or not listed:
            message = "must be a list of the values to try"
            fix = _as_list(key, text)
            yield _placed(tree, (key,), "wrong-type", message, fix)
        else:
            yield from _twice(tree, key, listed)
            if key == PAIRED:
                yield from _paired_problems(tree, listed, values)
    sizes = [len(listed) for listed in values.values() if isinstance(listed, list)]
    if prod(sizes) > MAX_RUNS:
        message = f"{prod(sizes):,} runs, at most {MAX_RUNS:,} are started"
        yield Problem("out-of-range", message, "try fewer values at once", file=file)


def _as_list(key: str, text: str) -> str:
    """How to write the value of a key that has no list."""
    if key == PAIRED:
        return "write mappings, `- {lora_r: 8, lora_alpha: 16}`"
    document = Text(text)
    span = document.find((key,))
    raw = document.raw(span) if span is not None and span.kind == "scalar" else ""
    return f"write `[{raw}]`" if raw else "use `[...]`"


def _twice(tree: Tree, key: str, listed: list[Any]) -> Iterator[Problem]:
    """Values that stand in a list a second time: two runs would be the same."""
    seen: set[str] = set()
    for number, value in enumerate(listed):
        text = json.dumps(value, sort_keys=True)
        if text in seen:
            message = f"`{written(value)}` stands here a second time: two runs would be the same"
            yield _placed(tree, (key, number), "conflict", message, "take one of them out")
        seen.add(text)


def _paired_problems(tree: Tree, listed: list[Any], values: Mapping[str, Any]) -> Iterator[Problem]:
    for number, block in enumerate(listed):
        if not isinstance(block, dict) or not block:
            message = "must be a mapping of keys that go together"
            yield _placed(tree, (PAIRED, number), "wrong-type", message, "write `{lora_r: 8}`")
            continue
        for key in block.keys() & values.keys():
            message = f"`{key}` has a list of its own too"
            fix = "keep one of the two"
            yield _placed(tree, (PAIRED, number, key), "conflict", message, fix)


def _placed(tree: Tree, path: Path, code: str, message: str, fix: str) -> Problem:
    place = tree.places[path]
    key = dotted_path(path)
    return Problem(
        code, message, fix, key=key, file=place.source, line=place.line, column=place.column
    )
