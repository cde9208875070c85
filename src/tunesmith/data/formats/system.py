"""Instructions whose system text stands in the row: ``alpaca_w_system`` and ``orcamini``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tunesmith.data.formats.fields import need, need_text, optional_text
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.formats.prompted import prompt_and_answer
from tunesmith.data.formats.wording import STYLES, Style
from tunesmith.data.records import Segments


@dataclass(frozen=True, slots=True)
class WithSystem:
    """A format whose rows bring their system text, which may be null or empty.

    The names are those of the columns; without ``given`` there is no input. ``keeps_empty_system``
    writes the place of the system text even where the row has none.
    """

    style: Style
    system: str = "system"
    instruction: str = "instruction"
    given: str = ""
    answer: str = "output"
    keeps_empty_system: bool = False

    def __call__(self, row: Mapping[str, Any], options: FormatOptions) -> Segments:
        """The prompt and the answer of a row; the answer trains.

        Raises:
            RowError: a column is missing or no text.
        """
        need(row, self.system, "")
        system = optional_text(row, self.system)
        instruction = need_text(row, self.instruction, "")
        given = optional_text(row, self.given) if self.given else ""
        answer = need_text(row, self.answer, "")
        prompt = self.style.prompt(system, instruction, given)
        if self.keeps_empty_system and not system:
            prompt = self.style.system.format(system="") + prompt
        return prompt_and_answer(
            prompt,
            answer,
            train_on_inputs=options.train_on_inputs,
            has_markup=self.style.has_markup,
        )


def _open_orca(style: Style, *, keeps_empty_system: bool = False) -> WithSystem:
    """The columns of OpenOrca in a style; its rows have no input."""
    return WithSystem(
        style,
        system="system_prompt",
        instruction="question",
        answer="response",
        keeps_empty_system=keeps_empty_system,
    )


read_chat: Final = WithSystem(STYLES["chat"], given="input")
read_instruct: Final = WithSystem(STYLES["instruct"], given="input")
read_open_orca: Final = _open_orca(
    Style(
        "### Human:\n{instruction}\n### Additional Context:\n{input}\n### Assistant:\n",
        "### Human:\n{instruction}\n### Assistant:\n",
        "### System:\n{system}\n",
    )
)
read_open_orca_chatml: Final = _open_orca(STYLES["chatml"])
read_orca_mini: Final = _open_orca(
    Style("", "### User:\n{instruction}\n\n### Response:\n", "### System:\n{system}\n\n"),
    keeps_empty_system=True,
)
