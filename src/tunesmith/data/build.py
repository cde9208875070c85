"""One data set's rows through format, renderer and length rule into shards, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.config.data import DataSection, DatasetEntry
from tunesmith.data.broken import BrokenRows
from tunesmith.data.formats.load import load_format
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.jsonrow import Row
from tunesmith.data.masking import template_roles
from tunesmith.data.overlong import LengthRule, fit
from tunesmith.data.records import Conversation, RowError, Source, TokenRecord
from tunesmith.data.render import RenderedRow, RenderSettings
from tunesmith.data.samples import TokenSample
from tunesmith.data.sandbox import RenderPool
from tunesmith.data.shards import ShardWriter, committed, finish_set, shard_name
from tunesmith.data.sources import Location, note_of, open_rows
from tunesmith.errors import DataError

Weigh = Callable[[TokenSample], Mapping[str, float]]
"""A sample's share of each named total: the objective's ``weights``."""

Progress = Callable[[str, int, int | None], None]
"""Told what is being done, how much of it is done, and of how much (None: unknown)."""

_PROGRESS_ROWS = 256


@dataclass(frozen=True, slots=True)
class Dataset:
    """One data set with all that its rows need; a test set is held out whole."""

    entry: DatasetEntry
    location: Location
    settings: RenderSettings
    rule: LengthRule
    is_test: bool


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What all data sets share: the section around them, and how their samples are weighed."""

    data: DataSection
    weigh: Weigh
    workers: int


class SetBroken(Exception):
    """Rows of the data set cannot be used; which ones is in the ``BrokenRows``."""


class RowReader:
    """Rows to records; what is none is noted as broken."""

    def __init__(self, entry: DatasetEntry, data: DataSection, broken: BrokenRows) -> None:
        self._read = load_format(entry)
        self._name = entry.type
        self._options = FormatOptions.of(entry, data)
        self._broken = broken

    def records(self, rows: Iterable[tuple[Source, Row]]) -> Iterator[tuple[Source, TokenRecord]]:
        """The records of the rows, until so many are broken that reading on tells nothing new.

        Raises:
            DataError: the format's rows are none that become tokens by themselves.
        """
        for source, row in rows:
            if self._broken.is_enough:
                return
            try:
                if isinstance(row, RowError):
                    raise row
                record = self._read(row, self._options)
            except RowError as error:
                self._broken.add(source, error)
                continue
            if not isinstance(record, TokenRecord):
                raise self._other_kind(source)
            yield source, record

    def _other_kind(self, source: Source) -> DataError:
        return DataError(
            f"`type: {self._name}` gives rows of preferences, steps or prompts, which supervised "
            "training does not read",
            hint="choose a `type` whose rows hold an answer",
            where=str(source),
        )


def take(
    shard: ShardWriter,
    rendered: RenderedRow,
    source: Source,
    plan: tuple[LengthRule, Weigh],
) -> None:
    """Write what is kept of a rendered row, and book what is not.

    Raises:
        RowError: it is too long, and that is an error.
    """
    rule, weigh = plan
    fitted = [fit(sample, rule) for sample in rendered.samples]
    account = shard.ledger.accounts[0]
    account.rows_in += 1
    account.tokens_in += sum(map(len, rendered.samples))
    for lint in rendered.lints:
        shard.ledger.note(lint)
    kept = [sample for samples, _ in fitted for sample in samples]
    losses = [loss for _, lost in fitted for loss in lost]
    for loss in losses:
        account.drop_tokens(loss.reason, loss.tokens)
    if kept:
        shard.add(source, kept, [weigh(sample) for sample in kept])
    else:
        account.drop_row(losses[0].reason if losses else "no tokens", str(source))


class SetBuild:
    """One run through a data set's rows, from where an earlier one was cut off."""

    def __init__(
        self,
        folder: Path,
        dataset: Dataset,
        number: int,
        plan: BuildPlan,
        broken: BrokenRows,
        progress: Progress,
    ) -> None:
        """``number`` is the data set's in the config; broken rows are added to ``broken``."""
        self._folder, self._dataset, self._number = folder, dataset, number
        self._plan, self._broken, self._progress = plan, broken, progress
        self._done = committed(folder)
        self._roles: set[str] = set()
        self._keeps = bool(self._done)
        self._shard = self._open_shard(len(self._done))

    def run(self, recipe: Mapping[str, Any]) -> None:
        """Fill the folder; ``recipe`` is kept beside the data.

        Raises:
            SetBroken: rows cannot be used.
            DataError: a file cannot be read.
        """
        dataset = self._dataset
        skipped = sum(shard.rows_read for shard in self._done)
        n_broken, n_shards = len(self._broken), len(self._done)
        reader = RowReader(dataset.entry, self._plan.data, self._broken)
        with RenderPool(dataset.settings, self._plan.workers) as pool:
            for (source, record), outcome in pool.render(reader.records(self._rows(skipped))):
                if isinstance(record, Conversation):
                    self._roles.update(message.role for message in record.messages)
                self._take(source, outcome)
                if self._shard.is_full and len(self._broken) == n_broken:
                    self._shard.commit()
                    n_shards += 1
                    self._shard = self._open_shard(n_shards)
        if len(self._broken) > n_broken:
            self._shard.discard()
            raise SetBroken
        if not self._keeps:
            self._refuse_other_roles()
        if self._shard.n_rows or n_shards == 0:
            self._shard.commit()
        else:
            self._shard.discard()
        finish_set(self._folder, recipe)

    def _rows(self, skipped: int) -> Iterator[tuple[Source, Row]]:
        rows = open_rows(self._dataset.entry, self._number, self._dataset.location)
        for number, (source, row) in enumerate(rows, start=1):
            if number % _PROGRESS_ROWS == 0:
                self._progress(self._dataset.entry.path, number, None)
            if number > skipped:
                yield source, row

    def _take(self, source: Source, outcome: RenderedRow | RowError) -> None:
        self._shard.n_rows += 1
        try:
            if isinstance(outcome, RowError):
                raise outcome
            take(self._shard, outcome, source, (self._dataset.rule, self._plan.weigh))
            account = self._shard.ledger.accounts[0]
            self._keeps |= account.rows_in > sum(account.rows_dropped.values())
        except RowError as error:
            self._broken.add(source, error)

    def _refuse_other_roles(self) -> None:
        """Raise where nothing is kept because no turn has a role that the entry asks for.

        Raises:
            DataError: with the roles that there are.
        """
        wanted = self._dataset.entry.roles_to_train
        if not self._roles or not wanted:
            return
        if self._roles & template_roles(wanted, self._dataset.settings.aliases):
            return
        asked = " or ".join(f"`{role}`" for role in wanted)
        raise DataError(
            f"no turn of {self._dataset.entry.path} has the role {asked}; the rows have "
            f"{', '.join(sorted(self._roles))}",
            hint="correct `roles_to_train`, or map the rows' own names with `roles`",
            where=f"datasets.{self._number}.roles_to_train",
        )

    def _open_shard(self, number: int) -> ShardWriter:
        shard = ShardWriter(self._folder / shard_name(number), self._dataset.entry.path)
        note = note_of(self._dataset.location, self._dataset.entry.path)
        if number == 0 and note is not None:
            shard.ledger.note(note)
        return shard
