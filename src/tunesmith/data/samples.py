"""What a record is in tokens: one schema per kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TokenSample:
    """Token ids and the weight of each as a target.

    ``input_ids`` is int32 [n]. ``runs`` are half-open, ordered, disjoint (start, end, weight) with
    weight > 0; a token outside of them weighs 0. The weight belongs to the *target* token, so that
    position 0, which nothing predicts, is never inside a run. ``source`` is ``file:row``.
    """

    input_ids: NDArray[np.int32]
    runs: tuple[tuple[int, int, float], ...]
    source: str

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def documents(self) -> tuple[TokenSample, ...]:
        """What is laid into a batch for it: itself."""
        return (self,)

    @property
    def verdict(self) -> bytes:
        """What else the row says, beside its documents: nothing."""
        return b""

    @property
    def total_weight(self) -> float:
        """The sum of all target weights (1 a trained token, unless the data says otherwise)."""
        return float(sum((end - start) * weight for start, end, weight in self.runs))

    @property
    def n_trained(self) -> int:
        """Tokens that train, whatever they weigh."""
        return sum(end - start for start, end, _ in self.runs)

    def target_weights(self) -> NDArray[np.float32]:
        """Weight of each token as a target, float32 [n]."""
        weights = np.zeros(len(self.input_ids), dtype=np.float32)
        for start, end, weight in self.runs:
            weights[start:end] = weight
        return weights


@dataclass(frozen=True, slots=True)
class PairSample:
    """Two answers to one prompt, each after the prompt; the runs lie on the answers."""

    chosen: TokenSample
    rejected: TokenSample

    def __len__(self) -> int:
        return len(self.chosen) + len(self.rejected)

    @property
    def documents(self) -> tuple[TokenSample, ...]:
        """The two documents, which must stay in one batch."""
        return self.chosen, self.rejected

    @property
    def verdict(self) -> bytes:
        """What else the row says: nothing, the first document is the chosen one."""
        return b""

    @property
    def source(self) -> str:
        """``file:row``."""
        return self.chosen.source

    @property
    def n_trained(self) -> int:
        """Tokens of both answers that train."""
        return self.chosen.n_trained + self.rejected.n_trained


@dataclass(frozen=True, slots=True)
class JudgedSample:
    """An answer after its prompt, and whether it is wanted; the runs lie on the answer.

    ``stranger`` is the same prompt with the answer of another row, from which the divergence from
    the reference is estimated; a split gives it to its samples.
    """

    answer: TokenSample
    is_good: bool
    stranger: TokenSample | None = None

    def __len__(self) -> int:
        return len(self.answer)

    @property
    def documents(self) -> tuple[TokenSample, ...]:
        """The answer; the stranger never trains and has a batch of its own."""
        return (self.answer,)

    @property
    def verdict(self) -> bytes:
        """Whether the answer is wanted."""
        return bytes([self.is_good])

    @property
    def source(self) -> str:
        """``file:row``."""
        return self.answer.source

    @property
    def n_trained(self) -> int:
        """Tokens of the answer that train."""
        return self.answer.n_trained


@dataclass(frozen=True, slots=True)
class StepSample:
    """A solution in steps: ids, int32 [n], and (position, right) for the end of each step.

    The end is the last token of the text that ends a step; steps whose end was cut off have none.
    """

    input_ids: NDArray[np.int32]
    ends: tuple[tuple[int, bool], ...]
    source: str

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def documents(self) -> tuple[TokenSample, ...]:
        """The solution, no token of which is a target: a step is judged where it ends."""
        return (TokenSample(self.input_ids, (), self.source),)

    @property
    def verdict(self) -> bytes:
        """The labels and where they stand."""
        return np.asarray(self.ends, dtype="<i8").tobytes()

    @property
    def n_trained(self) -> int:
        """Ends of steps that are judged."""
        return len(self.ends)


@dataclass(frozen=True, slots=True)
class PromptSample:
    """What a model is asked, ids int32 [n], and the columns that reward functions get."""

    input_ids: NDArray[np.int32]
    extras: Mapping[str, Any]
    source: str


TrainedSample = TokenSample | PairSample | JudgedSample | StepSample
"""Samples that are prepared and trained on: one or more documents that stay in one batch."""

Sample = TrainedSample | PromptSample


def with_documents(sample: TrainedSample, documents: Sequence[TokenSample]) -> TrainedSample:
    """The sample with other documents, as many as it has; a step's end beyond one is left out."""
    if isinstance(sample, TokenSample):
        return documents[0]
    if isinstance(sample, PairSample):
        return PairSample(*documents)
    if isinstance(sample, JudgedSample):
        return JudgedSample(documents[0], sample.is_good, sample.stranger)
    ids = documents[0].input_ids
    ends = tuple((end, right) for end, right in sample.ends if end < len(ids))
    return StepSample(ids, ends, sample.source)


SampleKind = Literal["tokens", "pairs", "judged", "steps"]

KINDS: Mapping[type[TrainedSample], SampleKind] = {
    TokenSample: "tokens",
    PairSample: "pairs",
    JudgedSample: "judged",
    StepSample: "steps",
}
"""The name of each kind of sample that objectives read."""

DOCUMENTS: Mapping[SampleKind, int] = {"tokens": 1, "pairs": 2, "judged": 1, "steps": 1}
"""The documents of a sample of each kind; each is at most ``sequence_len`` long."""
