"""``Rule``: a function of the config, and the keys that it looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tunesmith.config.checks.asked import Asked
from tunesmith.config.environment import Environment
from tunesmith.config.schema import RunConfig
from tunesmith.config.words import edit_in_words
from tunesmith.errors import Edit, Problem

Check = Callable[[RunConfig], Iterator[Problem]]
PlainCheck = Callable[[Asked], Iterator[Problem]]
MachineCheck = Callable[[Asked, Environment], Iterator[Problem]]
Needs = Callable[[Asked], str | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold between keys. It is skipped where one of its keys is itself wrong."""

    keys: tuple[str, ...]
    check: Check


@dataclass(frozen=True, slots=True)
class PlainRule:
    """The same between keys of which some belong to what is not built yet: it sees what was
    written, so that a user hears of everything at once.
    """

    keys: tuple[str, ...]
    check: PlainCheck


@dataclass(frozen=True, slots=True)
class MachineRule:
    """What must hold between keys and the machine.

    ``needs`` says in words what would be checked for this config, or None if nothing would; that
    is what is listed as deferred while the machine is unknown.
    """

    keys: tuple[str, ...]
    needs: Needs
    check: MachineCheck


def conflict(key: str, message: str, edit: Edit, fix: str = "") -> Problem:
    """Two keys that cannot both be as they are. ``fix`` says the edit in other words."""
    return Problem("conflict", message, fix or edit_in_words(edit), key=key, edit=edit)


def missing(key: str, message: str, edit: Edit, fix: str = "") -> Problem:
    """A key that another one needs."""
    return Problem("missing", message, fix or edit_in_words(edit), key=key, edit=edit)


def out_of_range(key: str, message: str, edit: Edit, fix: str = "") -> Problem:
    """A value that cannot be."""
    return Problem("out-of-range", message, fix or edit_in_words(edit), key=key, edit=edit)
