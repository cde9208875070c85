"""What a probe sees, what it answers, and how it leaves no trace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from tunesmith.checkpoint.weights import ModelFiles
from tunesmith.data.cache import PreparedSplit
from tunesmith.data.ledger import Ledger
from tunesmith.data.records import RowError
from tunesmith.data.samples import TokenSample
from tunesmith.data.stream import MapStream
from tunesmith.data.templates import ChatTemplate
from tunesmith.engine.run import Run
from tunesmith.errors import ProbeError
from tunesmith.models.source import LocatedModel
from tunesmith.runs.plan import RunPlan

REHEARSED_BYTES = 2_000_000_000
"""Larger weights or states are not written and read back: it would take minutes."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The assembled run and what it was made from.

    ``stream`` draws from ``train`` as the run's own does. ``files`` writes what a checkpoint's top
    level holds. ``stop_ids`` are the ids that end a turn; ``stops_expected`` is false where no
    format of the run writes one (segments without special tokens, ends that are left untrained).
    ``template`` is saved with the model, None without a chat template; ``base`` is what was loaded,
    None where a module was handed in. ``given`` rows in memory stand for the first data set.
    """

    run: Run
    plan: RunPlan
    train: PreparedSplit
    stream: MapStream
    ledger: Ledger
    files: ModelFiles
    stop_ids: frozenset[int]
    pad_id: int
    stops_expected: bool
    tokenizer: PreTrainedTokenizerFast
    template: ChatTemplate | None
    base: LocatedModel | None
    given: Sequence[Mapping[str, Any] | RowError] | None = None

    def totals(self, rows: Iterable[TokenSample]) -> dict[str, float]:
        """The named weights of the rows together."""
        totals: dict[str, float] = {}
        for sample in rows:
            for name, weight in self.run.objective.weights(sample).items():
                totals[name] = totals.get(name, 0.0) + weight
        return totals

    def samples(self, limit: int) -> Iterator[TokenSample]:
        """The first ``limit`` rows of the first epoch, in training order."""
        for row in self.stream.plan_of(0).members[:limit].tolist():
            yield self.train[row]

    def excerpts(self, limit: int, n_tokens: int) -> list[TokenSample]:
        """At most ``n_tokens`` of each of the first ``limit`` rows in which something trains.

        Raises:
            ProbeError: no row trains anything.
        """
        rows = self.samples(len(self.train))
        found = list(islice((excerpt(row, n_tokens) for row in rows if row.runs), limit))
        if not found:
            raise ProbeError(
                "no row trains anything",
                hint="look at the rows with `tunesmith preprocess CONFIG --show 3`",
            )
        return found


Probe = Callable[[Subject], str]
"""Returns what was seen, for one line; raises ``ProbeError`` naming row, key or module."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the preflight: what was seen and how long that took."""

    name: str
    seen: str
    seconds: float
    skipped: bool = False


@contextmanager
def no_trace(run: Run) -> Iterator[None]:
    """Generators, modes and gradients are afterwards as they were before."""
    modes = [(module, module.training) for module in run.policy.modules()]
    cpu = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        run.policy.zero_grad(set_to_none=True)
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


def excerpt(sample: TokenSample, n_tokens: int) -> TokenSample:
    """At most ``n_tokens`` of a sample around where it begins to train, with their weights.

    A long prompt loses its beginning: cut at the end, it would lose its answer.
    """
    first = sample.runs[0][0] if sample.runs else 0
    start = min(max(0, first - n_tokens // 2), max(0, len(sample) - n_tokens))
    end = start + n_tokens
    runs = tuple(
        (max(a, start) - start, min(b, end) - start, w)
        for a, b, w in sample.runs
        if a < end and b > start
    )
    return TokenSample(sample.input_ids[start:end], runs, sample.source)
