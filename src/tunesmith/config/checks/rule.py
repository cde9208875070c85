"""``Rule``: a function of the config, and the keys that it looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tunesmith.config.environment import Environment
from tunesmith.config.schema import RunConfig
from tunesmith.errors import Problem

Check = Callable[[RunConfig], Iterator[Problem]]
MachineCheck = Callable[[RunConfig, Environment], Iterator[Problem]]
Needs = Callable[[RunConfig], str | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold between keys. It is skipped where one of its keys is itself wrong."""

    keys: tuple[str, ...]
    check: Check


@dataclass(frozen=True, slots=True)
class MachineRule:
    """What must hold between keys and the machine.

    ``needs`` says in words what would be checked for this config, or None if nothing would; that
    is what is listed as deferred while the machine is unknown.
    """

    keys: tuple[str, ...]
    needs: Needs
    check: MachineCheck


def conflict(key: str, message: str, fix: str) -> Problem:
    """Two keys that cannot both be as they are."""
    return Problem("conflict", message, fix, key=key)


def missing(key: str, message: str, fix: str) -> Problem:
    """A key that another one needs."""
    return Problem("missing", message, fix, key=key)
