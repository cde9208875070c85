"""Predicates that several keys share: does the key have an effect in this config?

Those of a data set's keys look at its entry too. A type that the catalog has not may be a module of
the user's, which reads what it likes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tunesmith.catalog import STYLED_FORMATS
from tunesmith.config.dataset_types import format_name, is_templated
from tunesmith.registry import registry

Config = Any
"""A ``RunConfig``; its module imports the sections, so that it cannot be named here."""

Entry = Any
"""A ``DatasetEntry``, for the same reason."""


def has_adapter(config: Config) -> bool:
    """An adapter trains in place of the base."""
    return config.adapters.kind is not None


def has_held_out(config: Config) -> bool:
    """Some rows are kept for evaluation."""
    return bool(config.data.test_datasets or config.data.val_set_size)


def is_packed(config: Config) -> bool:
    """Documents share rows."""
    return bool(config.packing.sample_packing)


def uses_adam(config: Config) -> bool:
    """The optimizer is one of the Adam family."""
    return "adam" in config.optim.optimizer


def warms_up(config: Config) -> bool:
    """The schedule has a warm-up."""
    return bool(config.optim.schedule != "constant")


def reads_prompts(config: Config) -> bool:
    """Some data set trains its prompts if asked: any but chats that name the roles to train."""
    return any(
        entry.type not in (None, "chat_template") or entry.roles_to_train is None
        for entry in (*config.data.datasets, *config.data.test_datasets)
    )


def is_weighted(config: Config) -> bool:
    """Some data set names its share, and the data is no stream."""
    return not config.data.streaming and any(
        entry.weight is not None for entry in config.data.datasets
    )


def keeps_order(config: Config) -> bool:
    """Rows come in the order of the data, and the data is no stream."""
    return not config.data.streaming and config.data.curriculum


def reads_turns(entry: Entry, config: Config) -> bool:
    """The entry's rows are turns for a chat template."""
    name = format_name(entry.type)
    return is_templated(name) or name not in registry("formats")


def reads_styles(entry: Entry, config: Config) -> bool:
    """The entry's prompts come in styles, and its type does not name one."""
    name = format_name(entry.type)
    names_one = isinstance(entry.type, str) and ":" in entry.type
    return name not in registry("formats") or (name in STYLED_FORMATS and not names_one)


def is_typed(*beginnings: str) -> Callable[[Entry, Config], bool]:
    """The name of the entry's format begins like one of these, or is not the catalog's."""

    def when(entry: Entry, config: Config) -> bool:
        name = format_name(entry.type)
        return name.startswith(beginnings) or name not in registry("formats")

    return when


def is_mixed(entry: Entry, config: Config) -> bool:
    """The entry is one to train on."""
    return any(each is entry for each in config.data.datasets)
