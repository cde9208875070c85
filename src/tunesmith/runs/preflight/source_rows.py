"""The rows of the run's own data sets, read and rendered once more, for probes to compare with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from tunesmith.config.data import DatasetEntry
from tunesmith.data.formats.load import load_format
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.records import RowError, Source, TokenRecord
from tunesmith.data.render import Renderer, RenderSettings
from tunesmith.data.samples import TokenSample
from tunesmith.data.sources import given_rows, locate, open_rows
from tunesmith.models.tokenizer_facts import keep_tokenizer
from tunesmith.runs.preflight.probe import Subject
from tunesmith.runs.request import render_settings


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row as its format reads it, and what makes tokens of it; ``number`` is its data set's."""

    number: int
    entry: DatasetEntry
    settings: RenderSettings
    renderer: Renderer
    source: Source
    record: TokenRecord

    def samples(self) -> tuple[TokenSample, ...]:
        """What the row renders to now."""
        return self.renderer.render(self.record, self.source).samples


def source_rows(subject: Subject, limit: int) -> Iterator[SourceRow]:
    """The first ``limit`` rows of each data set; those that preparation refused are left out."""
    config, tokenizer = subject.plan.config, subject.tokenizer
    kept = keep_tokenizer(tokenizer)
    for number, entry in enumerate(config.data.datasets):
        settings = render_settings(config, entry, tokenizer, kept)
        read, options = load_format(entry), FormatOptions.of(entry, config.data)
        renderer = Renderer(settings)
        is_given = number == 0 and subject.given is not None
        location = given_rows(subject.given or ()) if is_given else locate(entry, config.batch.seed)
        for source, row in islice(open_rows(entry, number, location), limit):
            if isinstance(row, RowError):
                continue
            try:
                record = read(row, options)
            except RowError:
                continue
            if isinstance(record, TokenRecord):
                yield SourceRow(number, entry, settings, renderer, source, record)
