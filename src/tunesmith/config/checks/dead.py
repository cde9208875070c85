"""Keys that are set and do nothing: one notice each, or an error where training would differ."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from tunesmith.config.flat import top_leaves
from tunesmith.config.schema import RunConfig
from tunesmith.config.words import given


@dataclass(frozen=True, slots=True)
class DeadKey:
    """A key that has no effect in this config."""

    key: str
    message: str
    alters_training: bool


def dead_keys(config: RunConfig, given_keys: Collection[str]) -> Iterator[DeadKey]:
    """Each key of ``given_keys`` that asks for something while its ``when`` is false.

    Its default asks for nothing, nor do null, false, zero and empty where the default is null.
    """
    for flat, leaf in top_leaves().items():
        if flat not in given_keys or leaf.info.when is None:
            continue
        value = getattr(getattr(config, leaf.section), leaf.field)
        asks_nothing = leaf.default is None and not value
        if asks_nothing or value == leaf.default or leaf.info.when(config):
            continue
        message = f"{flat}: {given(value)} has no effect, {leaf.info.why}"
        yield DeadKey(flat, message, leaf.info.alters_training)
