"""The format of a data set entry: the catalog's, or a module of the user's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Literal, cast

from tunesmith.config.data import DatasetEntry
from tunesmith.config.dataset_types import TEMPLATED, format_name, is_own
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.formats.own import load_own, own_module
from tunesmith.data.records import Record
from tunesmith.registry import registry

Format = Callable[[Mapping[str, Any], FormatOptions], Record]
"""A row and its options -> what the row means."""


def load_format(entry: DatasetEntry, method: str | None = None) -> Format:
    """The function that reads the entry's rows; ``method`` is the config's ``rl``.

    A type that no table has is a module of the user's, which is imported here.

    Raises:
        ConfigError: no format has that name, or the module cannot be used.
    """
    name = format_name(entry.type, method)
    formats = registry("formats")
    if name not in formats and is_own(name):
        return load_own(name)
    return cast(Format, formats.load(name))


def format_modules(entry: DatasetEntry) -> tuple[ModuleType, ...]:
    """The modules of the entry's type: where its function is written, and where it is found.

    Raises:
        ConfigError: as ``load_format``.
    """
    written = sys.modules[load_format(entry).__module__]
    name = format_name(entry.type)
    is_ours = name in registry("formats") or not is_own(name)
    return (written,) if is_ours else (written, own_module(name))


def template_need(entry: DatasetEntry) -> Literal["always", "perhaps", "never"]:
    """Whether the entry's rows are turns, for a chat template.

    What an untyped row or a module of the user's answers with is known only when it is read.
    """
    name = format_name(entry.type)
    if name == "untyped" or name not in registry("formats"):
        return "perhaps"
    return "always" if name.startswith(TEMPLATED) else "never"
