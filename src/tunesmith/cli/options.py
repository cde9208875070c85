"""Config keys as options: ``--any-key value``, ``--datasets.0.path x``, ``--flag``, ``--no-x``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from tunesmith.config.flat import leaves
from tunesmith.config.overrides import Override, parse_value
from tunesmith.config.section import takes

Function = TypeVar("Function", bound=Callable[..., Any])

_TRUTH = {"true", "false", "yes", "no", "on", "off", "auto", "null"}


def takes_overrides(function: Function) -> Function:
    """A command's function with one more parameter, ``overrides``: every option that the command
    itself does not declare, as a tuple of ``Override``.

    Use it with ``context_settings=OVERRIDE_SETTINGS`` on the command.
    """
    argument = click.argument(
        "overrides", nargs=-1, type=click.UNPROCESSED, callback=_parsed, metavar="[--KEY VALUE]..."
    )
    return argument(function)


OVERRIDE_SETTINGS: dict[str, Any] = {"ignore_unknown_options": True}


def _parsed(
    ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[Override, ...]:
    return tuple(parse_overrides(value))


def parse_overrides(words: Sequence[str]) -> list[Override]:
    """The overrides that command-line words spell, in kebab or snake case.

    Raises:
        click.UsageError: a word belongs to no option, or an option lacks its value.
    """
    found: list[Override] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or len(word) < 3:
            raise click.UsageError(f"`{word}` belongs to no option.")
        name, equals, text = word[2:].partition("=")
        key = name.replace("-", "_")
        if equals:
            found.append(Override(key, parse_value(text)))
        elif _negates(key):
            found.append(Override(key.removeprefix("no_"), False))
        elif _is_flag(key) and not (rest and rest[0].lower() in _TRUTH):
            found.append(Override(key, True))
        elif rest and not rest[0].startswith("--"):
            found.append(Override(key, parse_value(rest.pop(0))))
        else:
            raise click.UsageError(f"`--{name}` needs a value (or write `--{name}=VALUE`).")
    return found


def _flat(key: str) -> str:
    """The schema's name of a dotted override: list positions become ``[]``."""
    parts: list[str] = []
    for part in key.split("."):
        if part.isdigit() and parts:
            parts[-1] += "[]"
        else:
            parts.append(part)
    return ".".join(parts)


def _is_flag(key: str) -> bool:
    leaf = leaves().get(_flat(key))
    return leaf is not None and takes(leaf.annotation, bool)


def _negates(key: str) -> bool:
    """Whether ``no_x`` means that the boolean ``x`` is off."""
    return key.startswith("no_") and _flat(key) not in leaves() and _is_flag(key[3:])
