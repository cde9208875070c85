"""Prepare the data and show it as the model will see it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from tunesmith.config.data import DatasetEntry
from tunesmith.config.dataset_types import format_name, is_compared, is_own
from tunesmith.config.schema import RunConfig
from tunesmith.data.broken import BrokenRows
from tunesmith.data.build import Progress
from tunesmith.data.compared import samples_of
from tunesmith.data.explain import explain
from tunesmith.data.formats.load import load_format
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.ledger import Account, Ledger
from tunesmith.data.prepare import open_datasets, silent
from tunesmith.data.records import Lint, Record, Source, TokenRecord
from tunesmith.data.render import Renderer
from tunesmith.data.survey import Reading, findings, records, survey
from tunesmith.data.tokens import TokenView
from tunesmith.errors import ConfigError, DataError
from tunesmith.models.source import locate as locate_base
from tunesmith.models.tokenizer import load_tokenizer
from tunesmith.runs.prepare import request_of


@dataclass(frozen=True, slots=True)
class Shown:
    """A sample of a row with its tokens, each with origin and reason.

    ``title`` tells a row's samples apart where it becomes several (``chosen``, ``1 of 3``),
    ``facts`` are what else the row says of the sample. ``notes`` say what is odd about the row.
    """

    source: str
    tokens: tuple[TokenView, ...]
    title: str = ""
    notes: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()


def is_looked_at(config: RunConfig, method: str) -> bool:
    """Whether the rows can only be looked at: they are of an objective that is not built.

    ``method`` is what ``rl`` names.
    """
    entries = (*config.data.datasets, *config.data.test_datasets)
    return bool(method) or any(is_compared(format_name(entry.type)) for entry in entries)


def look(config: RunConfig, method: str, progress: Progress = silent) -> Ledger:
    """The accounts of all rows of such a config, each read and rendered, none of them kept.

    Raises:
        DataError: data is missing, or rows are broken; ``problems`` holds the first of them.
        ModelError, ConfigError: as ``prepare``.
    """
    broken = BrokenRows()
    ledger = Ledger()
    for number, reading in enumerate(_readings(config, method)):
        ledger.accounts.append(Account(reading.dataset.entry.path))
        ledger.absorb(survey(reading, broken, progress), number)
    broken.raise_any()
    if not any(account.rows_trained for account in ledger.accounts):
        raise DataError(
            "nothing is left to train on: all rows are dropped",
            hint="look at `sequence_len` and the data's `type`",
            where="datasets",
        )
    return ledger


def views(config: RunConfig, limit: int, method: str = "") -> Iterator[Shown]:
    """The first ``limit`` rows of each data set, rendered again with the origin of each token."""
    n_training = len(config.data.datasets)
    for reading in islice(_readings(config, method), n_training):
        # Broken rows were refused, by name, by ``preprocess`` and ``look``.
        for source, record in islice(records(reading, BrokenRows()), limit):
            notes = _notes(reading, record, source)
            for one in explain(reading.renderer, record, reading.bos_id):
                yield Shown(str(source), one.tokens, one.title, notes, one.facts)


def _readings(config: RunConfig, method: str) -> Iterator[Reading]:
    """How each data set is read, held-out ones last."""
    tokenizer = load_tokenizer(locate_base(config.model), config.tokenizer)
    request = request_of(config, tokenizer, ())
    for number, dataset in enumerate(open_datasets(request)):
        _refuse_other_kind(dataset.entry, number, method)
        yield Reading(
            dataset=dataset,
            number=number,
            read=load_format(dataset.entry, method or None),
            options=FormatOptions.of(dataset.entry, config.data),
            renderer=Renderer(dataset.settings),
            bos_id=tokenizer.bos_token_id,
        )


def _refuse_other_kind(entry: DatasetEntry, number: int, method: str) -> None:
    """Raise where the method compares or asks, and the rows are answers to learn.

    Raises:
        ConfigError: with the data set's key.
    """
    name = format_name(entry.type, method or None)
    if not method or is_compared(name) or name.startswith("ebft.") or is_own(name):
        return
    raise ConfigError(
        f"`type: {entry.type}` gives answers to learn, which `rl: {method}` does not read",
        hint=f"choose a `type` of `rl: {method}`, or take `rl` out",
        where=f"datasets.{number}.type",
    )


def _notes(reading: Reading, record: Record, source: Source) -> tuple[str, ...]:
    """What the linters and the renderer say of one row."""
    if isinstance(record, TokenRecord):
        found: Iterable[Lint] = reading.renderer.render(record, source).lints
    else:
        samples = samples_of(reading.renderer, record, source, reading.bos_id)
        found = findings(reading.renderer, record, samples)
    return tuple(dict.fromkeys(f"{one.code}: {one.message}" for one in found))
