"""Plugins: modules with one function ``register(registries)``, named in the config's ``plugins``.

A plugin adds entries to the catalog's tables, as ``"module:object"`` strings, so that it too is
imported only where it is used:

    def register(registries):
        registries["formats"].add("my_chat", "my_package.formats:read_my_chat")

Installed packages can do the same without being named, through entry points in the groups
``tunesmith.formats``, ``tunesmith.optimizers``, ... (`tunesmith.registry` reads those).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module

from tunesmith.errors import ConfigError
from tunesmith.registry import KINDS, Registry, registry


def load_plugins(names: Sequence[str]) -> list[str]:
    """The names that were registered now, after importing each module and calling ``register``.

    This runs the code of modules that the user named; nothing is found by itself.

    Raises:
        ConfigError: a module cannot be imported or has no ``register``.
    """
    registries: Mapping[str, Registry] = {table: registry(table) for table in KINDS}
    for name in names:
        _register(name, registries)
    return list(names)


def _register(name: str, registries: Mapping[str, Registry]) -> None:
    try:
        module = import_module(name)
    except Exception as error:  # whatever a stranger's module raises while it is imported
        raise ConfigError(
            f"plugin `{name}` cannot be imported: {type(error).__name__}: {error}",
            hint="install it, or take it out of `plugins`",
            where="plugins",
        ) from error
    register = getattr(module, "register", None)
    if not callable(register):
        raise ConfigError(
            f"plugin `{name}` has no function `register`",
            hint="a plugin is a module with `register(registries)`",
            where="plugins",
        )
    try:
        register(registries)
    except ConfigError:
        raise
    except Exception as error:  # a stranger's code again
        raise ConfigError(
            f"plugin `{name}`: `register` failed: {type(error).__name__}: {error}",
            hint="repair the plugin, or take it out of `plugins`",
            where="plugins",
        ) from error
