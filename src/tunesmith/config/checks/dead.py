"""Keys that are set and do nothing: one notice each, or an error where training would differ."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from tunesmith.config.flat import Leaf, leaves, top_leaves
from tunesmith.config.schema import RunConfig
from tunesmith.config.section import Section
from tunesmith.config.words import given


@dataclass(frozen=True, slots=True)
class DeadKey:
    """A key that has no effect in this config; ``key`` is its dotted path."""

    key: str
    message: str
    alters_training: bool


def dead_keys(
    config: RunConfig, written: Mapping[str, Any], unknown: Collection[str] = ()
) -> Iterator[DeadKey]:
    """Each key of ``written`` (dotted top-level keys and their plain values) that asks for
    something while its ``when`` is false, in entries of lists too.

    Its default asks for nothing, nor do null, false, zero and empty where the default is null.
    ``unknown`` are dotted keys whose values are not known here: what hangs on one is not judged.
    """
    for flat, leaf in top_leaves().items():
        if flat not in written:
            continue
        value = getattr(getattr(config, leaf.section), leaf.field)
        if _is_dead(leaf, value, config, None, unknown):
            yield _dead(flat, leaf, value)
        if leaf.listed and flat not in unknown:
            for number, block in enumerate(value):
                around = f"{flat}.{number}"
                if f"{around}.type" not in unknown:
                    yield from _dead_inside(leaf, around, block, config, written[flat][number])


def _dead_inside(
    outer: Leaf, around: str, block: Section, config: RunConfig, written: Any
) -> Iterator[DeadKey]:
    for name in written if isinstance(written, dict) else ():
        leaf = leaves()[f"{outer.flat}[].{name}"]
        value = getattr(block, leaf.field)
        if _is_dead(leaf, value, config, block, ()):
            yield _dead(f"{around}.{name}", leaf, value)


def _dead(key: str, leaf: Leaf, value: Any) -> DeadKey:
    message = f"{key}: {given(value)} has no effect, {leaf.info.why}"
    return DeadKey(key, message, leaf.info.alters_training)


def _is_dead(
    leaf: Leaf, value: Any, config: RunConfig, block: Section | None, unknown: Collection[str]
) -> bool:
    asks_nothing = value == leaf.default or (leaf.default is None and not value)
    if leaf.info.when is None or asks_nothing:
        return False
    watched = _Watched(config)
    return not leaf.has_effect(watched, block) and not watched.read & set(unknown)


@cache
def _flat_names() -> Mapping[tuple[str, str], str]:
    return {(leaf.section, leaf.field): flat for flat, leaf in top_leaves().items()}


class _Watched:
    """A config that remembers the flat names of the keys that were read of it."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self.read: set[str] = set()

    def __getattr__(self, section: str) -> Any:
        return _WatchedSection(section, getattr(self._config, section), self.read)


class _WatchedSection:
    def __init__(self, name: str, section: Section, read: set[str]) -> None:
        self._name, self._section, self._read = name, section, read

    def __getattr__(self, field: str) -> Any:
        self._read.add(_flat_names()[self._name, field])
        return getattr(self._section, field)
