"""A prompt and its answer as the pieces of a record."""

from __future__ import annotations

from tunesmith.data.records import Segment, Segments


def prompt_and_answer(
    prompt: str, answer: str, *, train_on_inputs: bool, has_markup: bool = False
) -> Segments:
    """The prompt, which trains with ``train_on_inputs`` only, and the answer, which trains.

    An empty answer is left out: nobody wants to teach a model to say nothing at once, so the row
    has nothing to train and is dropped by that name.
    """
    pieces = [Segment(prompt, train_on_inputs)]
    if answer:
        pieces.append(Segment(answer, train=True))
    return Segments(tuple(pieces), has_markup=has_markup)
