"""The words everybody uses for what went wrong: exit codes, problems, and the exception tree.

TunesmithError          70  a bug of ours when raised bare
├── ConfigError          2  the YAML or an override is wrong; carries every problem found
├── DataError            2  a data set, row or template is wrong
├── ModelError           2  the model, tokenizer or adapter cannot be used as asked
├── PatchError          70  a change to someone else's code could not be applied
├── ProbeError           2  a preflight probe failed
└── RunError             7  a run could not start, go on or end; ``exit_code`` says which kind
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final


class ExitCode(IntEnum):
    """What the process says to the shell when it ends."""

    DONE = 0
    WRONG_INPUT = 2
    NO_ROOM = 3
    NOT_FINITE = 4
    DAMAGED = 5
    IN_USE = 6
    OUTSIDE_FAILED = 7
    UNSAFE = 8
    BUG = 70
    STOPPED = 75


Edit = Mapping[str, Any]
"""Dotted key of a config -> its new value, or ``REMOVE``."""

REMOVE: Final = None
"""In an edit: take the key out. A key that is null is one that is not set."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where it is, and what to change.

    ``code`` is one of ``yaml``, ``unknown-key``, ``wrong-type``, ``out-of-range``, ``conflict``,
    ``missing``, ``refused``, ``not-built`` for a config; free for data and probes.
    ``line`` and ``column`` count from 1; ``key`` is the flat dotted key or a row's field.
    ``edit`` is the smallest change of a config that ends the problem, where there is one to name;
    ``fix`` says the same in words.
    """

    code: str
    message: str
    fix: str = ""
    key: str = ""
    file: str = ""
    line: int | None = None
    column: int | None = None
    edit: Edit = field(default_factory=dict, hash=False)

    @property
    def place(self) -> str:
        """``file:line:column`` as far as known."""
        parts = [self.file, self.line, self.column]
        return ":".join(str(part) for part in parts if part not in ("", None))


class TunesmithError(Exception):
    """Something went wrong; ``hint`` says what to change and ``where`` says the place."""

    exit_code: ExitCode = ExitCode.BUG

    def __init__(
        self,
        message: str,
        *,
        hint: str,
        where: str = "",
        exit_code: ExitCode | None = None,
        problems: Sequence[Problem] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where
        self.problems = tuple(problems)
        if exit_code is not None:
            self.exit_code = exit_code

    def __str__(self) -> str:
        """What, where and what to change, for whoever sees the exception itself."""
        lines = [self.message]
        if self.where and not self.problems:
            lines.append(f"  at: {self.where}")
        for problem in self.problems:
            key = f"{problem.key}: " if problem.key else ""
            lines.append(f"  {problem.place}: {key}{problem.message}")
            lines += [f"    fix: {problem.fix}"] if problem.fix else []
        if not self.problems:
            lines.append(f"  fix: {self.hint}")
        return "\n".join(lines)


class ConfigError(TunesmithError):
    """The config is wrong; ``problems`` holds every problem, ordered by line.

    ``notices`` is what the user should hear beside them.
    """

    exit_code = ExitCode.WRONG_INPUT
    notices: Sequence[str] = ()


class DataError(TunesmithError):
    """Rows, files or templates are wrong; ``problems`` holds the first ones, by row."""

    exit_code = ExitCode.WRONG_INPUT


class ModelError(TunesmithError):
    """A model, tokenizer or adapter cannot be used as asked."""

    exit_code = ExitCode.WRONG_INPUT


class PatchError(TunesmithError):
    """A change to someone else's code could not be applied or undone."""


class ProbeError(TunesmithError):
    """A preflight probe failed; the message names row, key or module."""

    exit_code = ExitCode.WRONG_INPUT


class RunError(TunesmithError):
    """A run could not start, go on or end."""

    exit_code = ExitCode.OUTSIDE_FAILED
