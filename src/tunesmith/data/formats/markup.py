"""Chat markup written out, for preference data whose types name it: ChatML, Llama 3, Zephyr."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tunesmith.data.records import Preference, Segment, Segments

Turn = tuple[str, str]
"""A role and its text."""


@dataclass(frozen=True, slots=True)
class Markup:
    """What opens a turn of a role, what ends it, and what stands between turns."""

    opening: str
    end: str
    between: str

    def prompt(self, turns: Iterable[Turn]) -> str:
        """The turns, and the opening of the assistant's answer."""
        whole = "".join(
            f"{self.opening.format(role=role)}{text}{self.end}{self.between}"
            for role, text in turns
        )
        return whole + self.opening.format(role="assistant")

    def answered(self, turns: Iterable[Turn], answer: str) -> Segments:
        """The prompt and the answer with its end; the answer trains."""
        return answered(self.prompt(turns), answer + self.end)

    def pair(self, turns: Iterable[Turn], chosen: str, rejected: str) -> Preference:
        """Two answers to the prompt of the turns."""
        prompt = self.prompt(turns)
        return pair(prompt, chosen + self.end, rejected + self.end)


CHATML: Final = Markup("<|im_start|>{role}\n", "<|im_end|>", "\n")
LLAMA3: Final = Markup("<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>", "")


def answered(prompt: str, answer: str) -> Segments:
    """A prompt and its answer as one text, of which the answer trains."""
    pieces = (Segment(prompt, train=False), Segment(answer, train=True, glued=True))
    return Segments(pieces, has_markup=True)


def pair(prompt: str, chosen: str, rejected: str) -> Preference:
    """Two answers to a prompt, each a text."""
    return Preference(answered(prompt, chosen), answered(prompt, rejected))


def asked(system: str, user: str) -> tuple[Turn, ...]:
    """A user's turn, after a system turn where there is a system text."""
    return (("system", system), ("user", user)) if system else (("user", user),)
