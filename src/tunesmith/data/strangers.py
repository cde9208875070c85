"""Answers behind the prompts of others: from them the distance to a reference is estimated.

Who is whose stranger is fixed with the data: a function of its fingerprint alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.packing import derive_key, permutation
from tunesmith.data.samples import JudgedSample, TokenSample

TRIES = 8
"""Rows that are looked at for an answer to another prompt; the last one is taken as it is."""


class Strangers:
    """The strangers of the rows of one split: everybody's answer is used once, or nearly."""

    def __init__(self, fingerprint: str, n_rows: int, longest: int) -> None:
        """``longest`` is in tokens: a stranger is cut off there."""
        self._order = permutation(n_rows, derive_key("strangers", fingerprint))
        self._places: NDArray[np.int64] = np.argsort(self._order, kind="stable")
        self._longest = longest

    def meet(
        self, row: int, sample: JudgedSample, read: Callable[[int], JudgedSample]
    ) -> JudgedSample:
        """The sample with its stranger; ``read`` gives other rows."""
        n_rows = len(self._order)
        prompt = _prompt(sample.answer)
        place = int(self._places[row])
        other = sample.answer
        for step in range(1, min(TRIES, n_rows - 1) + 1):
            other = read(int(self._order[(place + step) % n_rows])).answer
            if not np.array_equal(_prompt(other), prompt):
                break
        return replace(sample, stranger=_behind(prompt, other, self._longest))


def _prompt(document: TokenSample) -> NDArray[np.int32]:
    """The tokens before what trains."""
    return document.input_ids[: document.runs[0][0]]


def _behind(prompt: NDArray[np.int32], other: TokenSample, longest: int) -> TokenSample:
    """The prompt with the other document's answer, with the weights of that."""
    start = other.runs[0][0]
    ids = np.concatenate([prompt, other.input_ids[start:]])[:longest]
    moved = len(prompt) - start
    runs = tuple(
        (a + moved, min(b + moved, longest), w) for a, b, w in other.runs if a + moved < longest
    )
    return TokenSample(ids, runs, other.source)
