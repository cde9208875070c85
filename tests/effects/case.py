"""``Case``: one key, the value that it is changed to, and what of a run must change with it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GROUND = "GROUND/"
"""Stands for the folder with models and data."""

RUN = "RUN/"
"""Stands for a folder of this run's own."""

Check = Callable[[Any, Any], bool]
"""What a key's page says of an observation: (before, after) -> is it so?"""


@dataclass(frozen=True)
class Became:
    """The observation was ``before`` and is ``after``."""

    before: Any
    after: Any

    def __call__(self, before: Any, after: Any) -> bool:
        return bool(before == self.before and after == self.after)


@dataclass(frozen=True)
class Is:
    """The observation is ``after``, and was something else."""

    after: Any

    def __call__(self, before: Any, after: Any) -> bool:
        return bool(after == self.after)


def differs(before: Any, after: Any) -> bool:
    """It is not what it was (which the set of changed names says already)."""
    return bool(before != after)


@dataclass(frozen=True)
class Case:
    """``key`` set to ``value`` in the run of ``given``, and the names of what changes.

    ``says`` holds what the key's page says, ``follows`` what comes of that. Together they are
    exactly what may differ. ``earlier`` are the keys that another run had, on top of this one's,
    before; ``lost`` are files and folders of the output directory that are gone since. ``refused``
    is what the changed run ends with, where the key's page says that it ends; ``name`` tells two
    cases of one key apart.
    """

    key: str
    value: Any
    says: Mapping[str, Check] = field(default_factory=dict)
    follows: frozenset[str] = frozenset()
    given: Mapping[str, Any] = field(default_factory=dict)
    earlier: Mapping[str, Any] | None = None
    lost: tuple[str, ...] = ()
    refused: str = ""
    name: str = ""
    slow: bool = False

    def __str__(self) -> str:
        return self.key + (f" ({self.name})" if self.name else "")

    @property
    def names(self) -> set[str]:
        """All that may differ, and must."""
        return {*self.says, *self.follows}

    def keys(self, base: Mapping[str, Any], *, changed: bool) -> dict[str, Any]:
        """The flat keys of one of the two runs; None takes a key out."""
        keys = copy.deepcopy({**base, **self.given})
        if changed:
            put(keys, self.key, self.value)
        return {name: value for name, value in keys.items() if value is not None}


def put(keys: dict[str, Any], flat: str, value: Any) -> None:
    """Set a flat key in nested plain values; ``[]`` is the first entry of a list."""
    block: Any = keys
    *outer, last = flat.split(".")
    for part in outer:
        name = part.removesuffix("[]")
        block = block.setdefault(name, [{}] if part.endswith("[]") else {})
        block = block[0] if part.endswith("[]") else block
    block[last] = value


def placed(value: Any, ground: Path, run: Path) -> Any:
    """The value with its stand-ins for folders replaced."""
    if isinstance(value, str):
        for stands, folder in ((GROUND, ground), (RUN, run)):
            if value.startswith(stands):
                return str(folder / value.removeprefix(stands))
        return value
    if isinstance(value, dict):
        return {name: placed(item, ground, run) for name, item in value.items()}
    return [placed(item, ground, run) for item in value] if isinstance(value, list) else value


LEARNS = frozenset({"steps.loss", "steps.norm", "result.values"})
"""What follows where the model, its batches or its steps are others."""
