"""Configs drawn at random over the whole schema: by types, bounds, choices and pools of words.

What may stand together is not known here: whoever draws asks `tunesmith.config.read.load`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any, Literal, get_args, get_origin

from tests.sampled.pools import CAPS, ENTRIES, FIXED, FLOORS, LEFT_OUT, POOLS
from tunesmith.config.flat import Leaf, leaves, top_leaves
from tunesmith.config.section import arms

TINY = 1e-6
"""What an excluded bound is kept away from."""

COUNTS = (0, 1, 2, 3, 4, 6, 8, 12, 16)
"""How many keys are drawn on top of what every config has."""


def draw(seed: int, ground: Path) -> dict[str, Any]:
    """The flat keys of one config, valid or not; the same seed gives the same."""
    rng = Random(seed)
    keys = _minimum(rng)
    free = [flat for flat in top_leaves() if flat not in FIXED and flat not in LEFT_OUT]
    for flat in rng.sample(free, rng.choice(COUNTS)):
        _put(keys, flat, draw_value(rng, leaves()[flat]))
    return _placed(_agree(keys), ground)  # type: ignore[no-any-return]


def _minimum(rng: Random) -> dict[str, Any]:
    """What every config has: a model, data, a length, and an adapter or none."""
    keys: dict[str, Any] = {name: rng.choice(pool) for name, pool in FIXED.items()}
    keys["datasets"] = [draw_entry(rng) for _ in range(rng.choice((1, 1, 2)))]
    kind = rng.choice((None, None, "lora", "lora", "qlora"))
    if kind is not None:
        keys |= {"adapter": kind, **rng.choice(POOLS["adapter"])}
    if kind == "qlora":
        keys["load_in_4bit"] = True
    keys["preflight_skip"] = draw_probes(rng)
    return keys


def _agree(keys: dict[str, Any]) -> dict[str, Any]:
    """The same, where two paths must be of one model: no rule can look into its files."""
    return keys | ({"base_model_config": keys["base_model"]} if "base_model_config" in keys else {})


def draw_probes(rng: Random) -> list[str]:
    """Mostly all probes are left out, which is quick; sometimes some."""
    (names,) = (get_args(arm) for arm in _items(leaves()["preflight_skip"].annotation))
    return list(names) if rng.random() < 0.9 else rng.sample(names, rng.randrange(len(names)))


def draw_entry(rng: Random) -> dict[str, Any]:
    """A data set: where its rows are and how they are read, and sometimes more keys."""
    entry = dict(rng.choice(ENTRIES))
    free = [
        leaf
        for flat, leaf in leaves().items()
        if leaf.parent == "datasets" and flat not in LEFT_OUT and leaf.field not in entry
    ]
    for leaf in rng.sample(free, rng.choice((0, 0, 0, 1, 1, 2))):
        entry[leaf.field] = draw_value(rng, leaf)
    return entry


def draw_value(rng: Random, leaf: Leaf) -> Any:
    """A value that the key's type and bounds allow."""
    if leaf.flat in ("datasets", "test_datasets"):
        return [draw_entry(rng)]
    if leaf.flat in POOLS:
        return rng.choice(POOLS[leaf.flat])
    if leaf.inner is not None:
        inside = [inner for inner in leaves().values() if inner.parent == leaf.flat]
        chosen = rng.sample(inside, rng.randint(1, len(inside)))
        return {inner.field: draw_value(rng, inner) for inner in chosen}
    low, high = bounds(leaf)
    return draw_of(rng, rng.choice(list(arms(leaf.annotation))), (low, high))


def draw_of(rng: Random, kind: Any, limits: tuple[float, float]) -> Any:
    """A value of a plain type.

    Raises:
        TypeError: the type does not say what fits; the key needs a pool.
    """
    if get_origin(kind) is Literal:
        return rng.choice(get_args(kind))
    if kind is bool:
        return rng.random() < 0.5
    if kind is int:
        return _whole(rng, *limits)
    if kind is float:
        return _real(rng, *limits)
    if get_origin(kind) in (list, tuple):
        (inner, *_) = get_args(kind)
        return [draw_of(rng, inner, limits) for _ in range(rng.randint(1, 2))]
    raise TypeError(f"{kind} has no generator")


def bounds(leaf: Leaf) -> tuple[float, float]:
    """The lowest and highest value that the key takes, the highest no more than its cap."""
    low, high = 0.0, float(CAPS.get(leaf.flat, CAPS[""]))
    floor = FLOORS.get(leaf.flat, 0.0)
    for limit in _limits(leaf):
        low = getattr(limit, "ge", low)
        high = min(high, getattr(limit, "le", high))
        if hasattr(limit, "gt"):
            low = limit.gt + TINY
        if hasattr(limit, "lt"):
            high = min(high, limit.lt - TINY)
    return max(low, floor), high


def _limits(leaf: Leaf) -> Iterator[Any]:
    from tunesmith.config.schema import RunConfig

    outer = leaves()[leaf.parent].inner if leaf.parent else None
    section = outer or RunConfig.model_fields[leaf.section].annotation
    yield from section.model_fields[leaf.field].metadata  # type: ignore[union-attr]


def _whole(rng: Random, low: float, high: float) -> int:
    """The ends a little more often than what is between, where small numbers prevail."""
    first, last = math.ceil(low), math.floor(high)
    if rng.random() < 0.2:
        return rng.choice((first, last))
    return first + int((last - first + 1) ** rng.random()) - 1


def _real(rng: Random, low: float, high: float) -> float:
    if high >= 2 and rng.random() < 0.5:
        return float(rng.randint(max(1, math.ceil(low)), math.floor(high)))
    share = rng.choice((0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 1.0))
    return float(f"{low + (min(high, 1.0) - low) * share:.6g}")


def _items(annotation: Any) -> Iterator[Any]:
    """The types inside of a list."""
    for arm in arms(annotation):
        yield from (item for item in get_args(arm) if item is not Ellipsis)


def _put(keys: dict[str, Any], flat: str, value: Any) -> None:
    block = keys
    *outer, last = flat.split(".")
    for name in outer:
        block = block.setdefault(name, {})
    block.setdefault(last, value)


def _placed(value: Any, ground: Path) -> Any:
    """The value with ``GROUND/`` as the folder that it stands for."""
    if isinstance(value, str):
        return value.replace("GROUND/", f"{ground}/") if value.startswith("GROUND/") else value
    if isinstance(value, Mapping):
        return {name: _placed(item, ground) for name, item in value.items()}
    return [_placed(item, ground) for item in value] if isinstance(value, list | tuple) else value
