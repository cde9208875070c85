"""``Material``: the base model, the tokenizer and the prepared data that a run is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerFast

from tunesmith.config.environment import Environment
from tunesmith.data.cache import PreparedSplit
from tunesmith.data.ledger import Ledger
from tunesmith.data.records import Lint, RowError
from tunesmith.data.templates import ChatTemplate
from tunesmith.data.windows import Windows
from tunesmith.models.facts import Architecture
from tunesmith.models.source import LocatedModel
from tunesmith.runs.estimate import Estimate
from tunesmith.runs.plan import Facts


@dataclass(frozen=True, slots=True)
class Material:
    """What preparation leaves behind for planning and assembly.

    ``template`` is the chat template that is saved with the model (None: no data set uses one).
    ``stop_ids`` end a turn; ``stops_expected`` says whether any format of the run trains one.
    ``identity`` names base and data by content. ``estimate`` stands for the whole
    data in a plan where only a sample is prepared. ``windows`` are those of a stream, and ``train``
    is the first of them then; None where all data is prepared before it trains. ``given`` are rows
    in memory that stand for the first data set.
    """

    base: LocatedModel
    architecture: Architecture
    tokenizer: PreTrainedTokenizerFast
    template: ChatTemplate | None
    train: PreparedSplit
    held_out: PreparedSplit | None
    ledger: Ledger
    lints: tuple[Lint, ...]
    stop_ids: frozenset[int]
    stops_expected: bool
    identity: Mapping[str, str]
    from_cache: bool
    estimate: Estimate | None = None
    given: Sequence[Mapping[str, Any] | RowError] | None = None
    windows: Windows | None = None

    @property
    def pad_id(self) -> int:
        """The id that fills micro-batches up; it never weighs anything."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if pad is not None else 0

    def _note(self) -> str:
        if self.windows is not None:
            return "the first window of a stream"
        return self.estimate.note if self.estimate else ""

    def facts(self, environment: Environment) -> Facts:
        """What a plan is made from."""
        data = self.estimate or self
        return Facts(
            environment=environment,
            architecture=self.architecture,
            train=data.train,
            held_out=data.held_out,
            pad_id=self.pad_id,
            identity=self.identity,
            estimated=self.estimate is not None or self.windows is not None,
            note=self._note(),
            streams=self.windows is not None,
        )
