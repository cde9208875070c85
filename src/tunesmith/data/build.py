"""Rows through format, renderer and length rule into a prepared folder, in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.config.data import DataSection, DatasetEntry
from tunesmith.data.broken import BrokenRows
from tunesmith.data.cache import HELD_OUT, TRAIN, SampleWriter, write_facts
from tunesmith.data.formats.lint import lint_record
from tunesmith.data.formats.options import FormatOptions, load_format
from tunesmith.data.holdout import HoldOut, as_digests
from tunesmith.data.kept import KeptRows, Sides, choose_sides, note_copies, settle
from tunesmith.data.ledger import Account, Ledger
from tunesmith.data.overlong import LengthRule, fit
from tunesmith.data.records import Record, RowError, Source
from tunesmith.data.render import RenderedRow, RenderSettings
from tunesmith.data.samples import TokenSample
from tunesmith.data.sandbox import RenderPool
from tunesmith.data.sources import Location, open_rows
from tunesmith.errors import DataError

Weigh = Callable[[TokenSample], Mapping[str, float]]
"""A sample's share of each named total: the objective's ``weights``."""

Progress = Callable[[str, int, int | None], None]
"""Told what is being done, how much of it is done, and of how much (None: unknown)."""

LEDGER = "ledger.json"

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
    """What is built: the data sets in order, and what is done with their samples."""

    datasets: tuple[Dataset, ...]
    data: DataSection
    weigh: Weigh
    seed: int
    workers: int


class Build:
    """One run through all the rows, into an empty folder."""

    def __init__(self, folder: Path, plan: BuildPlan, progress: Progress) -> None:
        self._folder = folder
        self._plan = plan
        self._progress = progress
        self._ledger = Ledger([Account(dataset.entry.path) for dataset in plan.datasets])
        self._kept = KeptRows()
        self._broken = BrokenRows()
        self._writer = SampleWriter(folder)

    def run(self, recipe: Mapping[str, Any]) -> None:
        """Fill the folder; ``recipe`` is kept beside the data.

        Raises:
            DataError: rows are broken, or nothing is left to train on.
        """
        for index, dataset in enumerate(self._plan.datasets):
            with RenderPool(dataset.settings, self._plan.workers) as pool:
                for (source, _), outcome in pool.render(self._records(dataset, index)):
                    self._take(source, outcome, dataset.rule)
        self._broken.raise_any()
        self._writer.close()
        sides = self._settle()
        self._refuse_nothing()
        self._write(sides, recipe)

    def _records(self, dataset: Dataset, index: int) -> Iterator[tuple[Source, Record]]:
        """The data set's rows as records; what is none is noted as broken."""
        read = load_format(dataset.entry)
        options = FormatOptions.of(dataset.entry, self._plan.data)
        rows = open_rows(dataset.entry, index, dataset.location)
        for number, (source, row) in enumerate(rows, start=1):
            if number % _PROGRESS_ROWS == 0:
                self._progress(dataset.entry.path, number, None)
            if self._broken.is_enough:
                return
            try:
                if isinstance(row, RowError):
                    raise row
                record = read(row, options)
            except RowError as error:
                self._broken.add(source, error)
                continue
            for lint in lint_record(record):
                self._ledger.note(replace(lint, source=str(source)))
            yield source, record

    def _take(self, source: Source, outcome: RenderedRow | RowError, rule: LengthRule) -> None:
        """Write what is kept of a rendered row, and book what is not."""
        if isinstance(outcome, RowError):
            self._broken.add(source, outcome)
            return
        account = self._ledger.accounts[source.dataset]
        try:
            fitted = [fit(sample, rule) for sample in outcome.samples]
        except RowError as error:
            self._broken.add(source, error)
            return
        account.rows_in += 1
        account.tokens_in += sum(map(len, outcome.samples))
        for lint in outcome.lints:
            self._ledger.note(lint)
        kept = [sample for samples, _ in fitted for sample in samples]
        losses = [loss for _, lost in fitted for loss in lost]
        for loss in losses:
            account.drop_tokens(loss.reason, loss.tokens)
        if kept:
            self._kept.add(source, kept)
            for sample in kept:
                self._writer.add(sample, self._plan.weigh(sample))
        else:
            account.drop_row(losses[0].reason if losses else "no tokens", str(source))

    def _settle(self) -> Sides:
        """Put every kept row on its side and close the accounts."""
        data = self._plan.data
        test = np.array([dataset.is_test for dataset in self._plan.datasets], dtype=np.bool_)
        is_test = test[np.asarray(self._kept.datasets, dtype=np.int64)]
        wanted = HoldOut(data.val_set_size, self._plan.seed)
        drop_copies = data.exact_deduplication
        sides = choose_sides(self._kept, is_test, wanted, drop_copies=drop_copies)
        note_copies(self._kept, sides, is_test, self._ledger)
        settle(self._kept, sides, self._ledger)
        self._ledger.check()
        return sides

    def _refuse_nothing(self) -> None:
        if any(account.rows_trained for account in self._ledger.accounts):
            return
        rows = sum(account.rows_in for account in self._ledger.accounts)
        story = "; ".join(line.strip() for line in self._ledger.summary()[:6])
        raise DataError(
            f"nothing is left to train on: all {rows} rows were dropped or are held out ({story})",
            hint="look at `sequence_len`, `min_sample_len`, `roles_to_train` and the data's `type`",
            where="datasets",
        )

    def _write(self, sides: Sides, recipe: Mapping[str, Any]) -> None:
        digests = as_digests(self._kept.digests)
        splits = {}
        for name, side in ((TRAIN, sides.train), (HELD_OUT, sides.held_out)):
            np.save(self._folder / f"{name}.npy", sides.samples(side, self._kept))
            splits[name] = sha256(digests[side].tobytes()).hexdigest()
        text = json.dumps(self._ledger.to_json(), indent=1, ensure_ascii=False)
        (self._folder / LEDGER).write_text(text, encoding="utf-8")
        write_facts(self._folder, {**self._writer.facts(), "splits": splits, "recipe": recipe})
