"""Config keys as options: ``--any-key value``, ``--datasets.0.path x``, ``--flag``, ``--no-x``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import click

from tunesmith.cli.failure import show_notices
from tunesmith.config.environment import Environment, named_machine
from tunesmith.config.flat import leaves, top_leaves
from tunesmith.config.kinds import kinds, plain_key
from tunesmith.config.legacy import ATTENTION_SWITCHES
from tunesmith.config.overrides import Override, parse_value
from tunesmith.config.read import Examined, LoadedConfig, examine, load
from tunesmith.config.section import takes
from tunesmith.config.support import state_of
from tunesmith.registry import nearest

Function = TypeVar("Function", bound=Callable[..., Any])

_TRUTH = {"true", "false", "yes", "no", "on", "off", "auto", "null"}
OVERRIDE_SETTINGS: dict[str, Any] = {"ignore_unknown_options": True}


@dataclass(frozen=True, slots=True)
class Request:
    """The config that a command was asked to read, and how strictly."""

    path: str
    overrides: tuple[Override, ...] = ()
    lenient: bool = False
    strict_keys: bool = False
    machine: str | None = None

    @property
    def environment(self) -> Environment | None:
        """The machine that ``--machine`` names; None where it names none."""
        return named_machine(self.machine) if self.machine else None

    def load(self) -> LoadedConfig:
        """The config, its notices shown.

        Raises:
            ConfigError: with every problem; also those of the machine, where one is named.
        """
        loaded = self.read(self.environment)
        show_notices([*loaded.notices, *migration_hint(loaded)])
        return loaded

    def read(
        self, environment: Environment | None = None, more: Sequence[Override] = ()
    ) -> LoadedConfig:
        """The same in silence, for a machine, with ``more`` overrides on top."""
        return load(
            self.path,
            (*self.overrides, *more),
            lenient=self.lenient,
            strict_keys=self.strict_keys,
            environment=environment,
        )

    def examine(self) -> Examined:
        """The same for the machine that is named, right or wrong."""
        return examine(
            self.path,
            self.overrides,
            lenient=self.lenient,
            strict_keys=self.strict_keys,
            environment=self.environment,
        )


def migration_hint(loaded: LoadedConfig) -> list[str]:
    """How to be rid of the notices of old keys; nothing where the file has none."""
    if not loaded.old_keys:
        return []
    old = f"{loaded.old_keys} old key{'' if loaded.old_keys == 1 else 's'}"
    return [f"{loaded.path}: {old}: `tunesmith config migrate {loaded.path} -w` rewrites the file"]


def takes_config(function: Function) -> Callable[..., Any]:
    """A command's function that gets a ``request``: CONFIG, overrides, and how strictly to read.

    Use it with ``context_settings=OVERRIDE_SETTINGS`` on the command.
    """

    @click.argument("config")
    @takes_overrides
    @click.option("--lenient", is_flag=True, help="Unknown keys are notices.")
    @click.option(
        "--strict-keys",
        is_flag=True,
        help="Keys that do nothing here (without effect, or left out) are errors.",
    )
    @wraps(function)
    def command(
        *,
        config: str,
        overrides: tuple[Override, ...],
        lenient: bool,
        strict_keys: bool,
        machine: str | None = None,
        **rest: Any,
    ) -> Any:
        return function(request=Request(config, overrides, lenient, strict_keys, machine), **rest)

    return command


def takes_machine(function: Function) -> Function:
    """A command's function with the option ``--machine``, which ends up in its ``request``."""
    return click.option(
        "--machine", metavar="NAME", help="Decide for this machine: h100, rtx4090x2, cpu, ..."
    )(function)


def takes_overrides(function: Function) -> Function:
    """A command's function with one more parameter, ``overrides``: every option that the command
    itself does not declare, as a tuple of ``Override``. CONFIG may stand behind them.

    Use it with ``context_settings=OVERRIDE_SETTINGS`` on the command.
    """
    argument = click.argument(
        "overrides", nargs=-1, type=click.UNPROCESSED, callback=_parsed, metavar="[--KEY VALUE]..."
    )
    return argument(function)


def takes_files(function: Function) -> Function:
    """A command's function with ``words``: (the files, the overrides), in any order."""
    argument = click.argument(
        "words",
        nargs=-1,
        required=True,
        type=click.UNPROCESSED,
        callback=_files_and_overrides,
        metavar="FILE... [--KEY VALUE]...",
    )
    return argument(function)


def _parsed(
    ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[Override, ...]:
    """The overrides of the words. Where an option stood before CONFIG, click took that option for
    CONFIG: the words are read together then.
    """
    name = next((name for name in ("config", "file") if name in ctx.params), "")
    first = ctx.params.get(name)
    if not (isinstance(first, str) and first.startswith("--")):
        return tuple(parse_overrides(value))
    others, overrides = split_words([first, *value])
    if len(others) > 1:
        raise click.UsageError(f"`{others[1]}` belongs to no option.")
    if not others and name == "config":
        raise click.UsageError("Missing argument 'CONFIG'.")
    ctx.params[name] = others[0] if others else None
    return tuple(overrides)


def _files_and_overrides(
    ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[list[str], list[Override]]:
    files, overrides = split_words(value)
    if not files:
        raise click.UsageError("Missing argument 'FILE...'.")
    return files, overrides


def parse_overrides(words: Sequence[str]) -> list[Override]:
    """The overrides that command-line words spell, in kebab or snake case.

    Raises:
        click.UsageError: a word belongs to no option, or an option lacks its value.
    """
    others, found = split_words(words)
    if others:
        raise click.UsageError(f"`{others[0]}` belongs to no option.")
    return found


def split_words(words: Sequence[str]) -> tuple[list[str], list[Override]]:
    """The words that belong to no option, and the overrides that the others spell.

    Raises:
        click.UsageError: an option lacks its value, or is none.
    """
    others: list[str] = []
    found: list[Override] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            others.append(word)
            continue
        if not word.startswith("--") or len(word) < 3:
            raise click.UsageError(f"`{word}` belongs to no option.")
        name, equals, text = word[2:].partition("=")
        source = f"--{name} on the command line"
        key = name.replace("-", "_")
        if equals:
            found.append(Override(key, _value(key, text), source))
        elif _negates(key):
            found.append(Override(key.removeprefix("no_"), False, source))
        elif _is_flag(key) and not (rest and rest[0].lower() in _TRUTH):
            found.append(Override(key, True, source))
        elif (meant := _own_option(name)) is not None:
            raise click.UsageError(f"There is no option `--{name}`. Did you mean `{meant}`?")
        elif rest and not rest[0].startswith("--"):
            found.append(Override(key, _value(key, rest.pop(0)), source))
        elif _flat(key) not in leaves() and state_of(_flat(key)) is not None:
            found.append(Override(key, True, source))  # an old switch
        else:
            raise click.UsageError(f"`--{name}` needs a value (or write `--{name}=VALUE`).")
    return others, found


def _value(key: str, text: str) -> Any:
    """The value of a word; of a key that takes text and no numbers, ``2024`` is text."""
    value, flat = parse_value(text), _flat(key)
    if not isinstance(value, bool | int | float):
        return value
    leaf = leaves().get(flat)
    if leaf is None:
        return text if kinds().get(plain_key(flat)) == "text" else value
    others = any(takes(leaf.annotation, kind) for kind in (bool, int, float))
    return text if takes(leaf.annotation, str) and not others else value


def _own_option(name: str) -> str | None:
    """The option of the command itself that was most likely meant by a word that is no key, where
    no key is as near.
    """
    context = click.get_current_context(silent=True)
    if context is None or state_of(_flat(name.replace("-", "_"))) is not None:
        return None
    own = [
        option.removeprefix("--")
        for parameter in context.command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
        if option.startswith("--")
    ]
    meant = nearest(name, [*top_leaves(), *own])
    return f"--{meant}" if meant in own else None


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
    """Whether a key is a switch: one that is read, old, or not built."""
    flat = _flat(key)
    leaf = leaves().get(flat) or leaves().get(getattr(state_of(flat), "today", ""))
    if flat in ATTENTION_SWITCHES or kinds().get(plain_key(flat)) == "flag":
        return True
    return leaf is not None and takes(leaf.annotation, bool)


def _negates(key: str) -> bool:
    """Whether ``no_x`` means that the switch ``x`` is off. Any old key may be one, but for those
    that are another name of a key that is none.
    """
    positive = key.removeprefix("no_")
    if positive == key or _flat(key) in leaves():
        return False
    state = state_of(_flat(positive))
    if _is_flag(positive) or state is None or state.state in ("read", "not built"):
        return _is_flag(positive)
    return state.what != f"`{state.today}`"
