"""Before and after, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

SHOWN = 6
"""Prompts that are shown whole; all of them are scored."""


class Asked(Protocol):
    """A held-out prompt."""

    @property
    def text(self) -> str:
        """What was asked."""
        ...

    @property
    def expected(self) -> str:
        """The right answer."""
        ...


class Scored(Protocol):
    """What a model answered."""

    @property
    def answers(self) -> Sequence[str]:
        """In the order of the prompts."""
        ...

    @property
    def correct(self) -> Sequence[bool]:
        """Which are right."""
        ...

    @property
    def general_loss(self) -> float:
        """Nats a token on general text."""
        ...

    @property
    def exact_match(self) -> float:
        """The share that is right."""
        ...


class Compared(Protocol):
    """The same prompts before and after."""

    @property
    def prompts(self) -> Sequence[Asked]:
        """What was asked."""
        ...

    @property
    def before(self) -> Scored:
        """The base model."""
        ...

    @property
    def after(self) -> Scored:
        """The tuned model."""
        ...

    @property
    def interval(self) -> tuple[float, float]:
        """Of the gain in exact match."""
        ...


def comparison_lines(compared: Compared) -> Iterator[str]:
    """A few prompts with both answers, then the score of all of them."""
    n = len(compared.prompts)
    yield ""
    yield f"{n} held-out prompts, {min(SHOWN, n)} of them:"
    for number in range(min(SHOWN, n)):
        prompt = compared.prompts[number]
        mark = "right" if compared.after.correct[number] else f"wrong, {prompt.expected!r} is right"
        yield ""
        yield f"  {_one_line(prompt.text)}"
        yield f"    before  {_one_line(compared.before.answers[number])}"
        yield f"    after   {_one_line(compared.after.answers[number])}   ({mark})"
    low, high = compared.interval
    before, after = compared.before, compared.after
    yield ""
    yield (
        f"exact match      {sum(before.correct)} of {n} before, {sum(after.correct)} of {n} after: "
        f"{100 * (after.exact_match - before.exact_match):+.0f} points "
        f"(95 % bootstrap interval {100 * low:+.0f} to {100 * high:+.0f})"
    )
    yield (
        f"general text     loss {before.general_loss:.3f} before, {after.general_loss:.3f} after "
        f"({after.general_loss - before.general_loss:+.3f})"
    )


def _one_line(text: str, width: int = 96) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 3]}..."
