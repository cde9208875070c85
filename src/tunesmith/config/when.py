"""Predicates on the whole config that several keys share: does the key have an effect there?"""

from __future__ import annotations

from typing import Any

Config = Any
"""A ``RunConfig``; its module imports the sections, so that it cannot be named here."""


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
    data = config.data
    return not data.streaming and (not data.shuffle_merged or data.curriculum)
