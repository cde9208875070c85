"""Styles: how an instruction, its input and a system text are set for a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from tunesmith.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Style:
    """Where the texts of a prompt stand: with an input, without one, and the system text."""

    turn: str
    turn_without_input: str
    system: str = "{system}"

    @property
    def has_markup(self) -> bool:
        """Whether it is written in a chat template's own marks."""
        return "<|" in self.turn_without_input

    def prompt(self, system: str, instruction: str, given: str) -> str:
        """The prompt of one row; an empty system text leaves its whole place out."""
        head = self.system.format(system=system) if system else ""
        if given:
            return head + self.turn.format(instruction=instruction, input=given)
        return head + self.turn_without_input.format(instruction=instruction)


STYLES: Mapping[str, Style] = MappingProxyType(
    {
        "instruct": Style(
            "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n",
            "### Instruction:\n{instruction}\n\n### Response:\n",
            "{system}\n\n",
        ),
        "chat": Style(
            "USER: {instruction}\n{input}\nASSISTANT:",
            "USER: {instruction}\nASSISTANT:",
            "SYSTEM: {system}\n",
        ),
        "chatml": Style(
            "<|im_start|>user\n{instruction}\n{input}<|im_end|>\n<|im_start|>assistant\n",
            "<|im_start|>user\n{instruction}<|im_end|>\n<|im_start|>assistant\n",
            "<|im_start|>system\n{system}<|im_end|>\n",
        ),
        "phi": Style(
            "<|user|>\n{instruction}<|end|>{input}<|assistant|>",
            "<|user|>\n{instruction}<|end|>\n<|assistant|>\n",
            "<|system|>\n{system}<|end|>\n",
        ),
    }
)
"""The styles that `type: name:style` and `conversation: style` can ask for."""


@dataclass(frozen=True, slots=True)
class Systems:
    """The system text of rows with an input, and of rows without."""

    with_input: str = ""
    without_input: str = ""

    def of(self, given: str) -> str:
        """The one for a row with this input."""
        return self.with_input if given else self.without_input


NO_SYSTEM: Final = Systems()
"""Rows that have no system text."""


def find_style(asked: str | None, usual: str) -> Style:
    """The style that the config asks for, else the format's usual one.

    Raises:
        ConfigError: there is no such style.
    """
    name = asked or usual
    if name not in STYLES:
        raise ConfigError(
            f"there is no prompt style `{name}`",
            hint=f"one of: {', '.join(STYLES)}",
            where="datasets",
        )
    return STYLES[name]
