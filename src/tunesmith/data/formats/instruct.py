"""Instructions with an answer: ``alpaca`` and its relatives, each in its own columns and words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tunesmith.data.formats.fields import need_text, need_text_list, optional_text
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.formats.prompted import prompt_and_answer
from tunesmith.data.formats.wording import NO_SYSTEM, STYLES, Style, Systems, find_style
from tunesmith.data.records import Segments

Texts = tuple[str, str, str]
"""Instruction, input ("" for none) and answer of a row."""


@dataclass(frozen=True, slots=True)
class Instruct:
    """A format of an instruction, an optional input and an answer, which trains.

    ``texts`` reads the columns and ``systems`` holds the fixed system texts. ``style`` is the usual
    style's name, which ``type: name:style`` may replace, or a style of the format's own.
    """

    texts: Callable[[Mapping[str, Any]], Texts]
    systems: Systems = NO_SYSTEM
    style: str | Style = "instruct"

    def __call__(self, row: Mapping[str, Any], options: FormatOptions) -> Segments:
        """The prompt and the answer of a row.

        Raises:
            RowError: a column is missing or not what it should be.
            ConfigError: the style is unknown.
        """
        instruction, given, answer = self.texts(row)
        style = self.style
        if isinstance(style, str):
            style = find_style(options.style, style)
        prompt = style.prompt(self.systems.of(given), instruction, given)
        return prompt_and_answer(
            prompt,
            answer,
            train_on_inputs=options.train_on_inputs,
            has_markup=style.has_markup,
        )


def columns(instruction: str, answer: str, given: str = "") -> Callable[[Mapping[str, Any]], Texts]:
    """What reads the texts from columns of these names; ``given`` ("" for none) may be missing."""

    def texts(row: Mapping[str, Any]) -> Texts:
        asked = need_text(row, instruction, "")
        return asked, optional_text(row, given) if given else "", need_text(row, answer, "")

    return texts


def _choices(row: Mapping[str, Any]) -> Texts:
    """A question with its choices as a list; the answer is the solution, else the explanation."""
    question = need_text(row, "question", "")
    choices = need_text_list(row, "choices")
    answer = need_text(row, "solution" if "solution" in row else "explanation", "")
    return question, "\n".join(f'- "{choice}"' for choice in choices), answer


def _clue(row: Mapping[str, Any]) -> Texts:
    clue, category = need_text(row, "question", ""), need_text(row, "category", "")
    return clue, category, "what is " + need_text(row, "answer", "")


# The wording of the Stanford Alpaca paper's training prompts; models expect it to the letter.
ALPACA: Final = Systems(
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.",
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.",
)
_CONCISE: Final = Systems(
    "Below is an instruction from a USER that describes a task, paired with an input that provides "
    "further context. The ASSISTANT writes a response that concisely and appropriately completes "
    "the request.\n\n",
    "Below is an instruction from a USER that describes a task. The ASSISTANT writes a response "
    "that appropriately and concisely completes the request.\n\n",
)
_EXPLAIN: Final = "Choose the answer that best answers the question. Explain your reasoning.\n"
_BRIEF: Final = "Choose the answer that best answers the question. Be concise in your response.\n\n"
_PLAIN_CHAT: Final = Style(
    "USER: {instruction}\n{input}\nASSISTANT:", "USER: {instruction}\nASSISTANT:"
)
_SUMMARIZE: Final = Style(
    "USER: Summarize the following article as a TL;DR.\n{instruction}\n{input}\nASSISTANT:",
    "USER: Summarize the following article as a TL;DR.\n{instruction}\nASSISTANT:",
)

_ALPACA_COLUMNS: Final = columns("instruction", "output", given="input")

read_alpaca: Final = Instruct(_ALPACA_COLUMNS, ALPACA)
read_alpaca_chat: Final = Instruct(_ALPACA_COLUMNS, ALPACA, "chat")
read_alpaca_concise: Final = Instruct(_ALPACA_COLUMNS, _CONCISE, STYLES["chat"])
read_alpaca_instruct: Final = Instruct(_ALPACA_COLUMNS, ALPACA, STYLES["instruct"])
read_bare_chat: Final = Instruct(_ALPACA_COLUMNS, style=STYLES["chat"])
read_bare_instruct: Final = Instruct(_ALPACA_COLUMNS, style=STYLES["instruct"])
read_question: Final = Instruct(columns("question", "answer"), _CONCISE, STYLES["chat"])
read_camel: Final = Instruct(columns("message_1", "message_2"), _CONCISE, STYLES["chat"])
read_explained_choice: Final = Instruct(_choices, Systems(_EXPLAIN, _EXPLAIN))
read_brief_choice: Final = Instruct(_choices, Systems(_BRIEF, _BRIEF), _PLAIN_CHAT)
read_summary: Final = Instruct(columns("article", "summary"), style=_SUMMARIZE)
read_jeopardy: Final = Instruct(_clue, ALPACA)
read_open_assistant: Final = Instruct(columns("INSTRUCTION", "RESPONSE"), ALPACA)
read_gpteacher: Final = Instruct(columns("instruction", "response", given="input"), ALPACA)
