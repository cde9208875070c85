"""Prepare the data and show it as the model will see it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from tunesmith.config.schema import RunConfig
from tunesmith.data.broken import BrokenRows
from tunesmith.data.build import Progress, RowReader
from tunesmith.data.formats.lint import lint_record
from tunesmith.data.prepare import silent
from tunesmith.data.records import Source, TokenRecord
from tunesmith.data.render import Renderer
from tunesmith.data.sources import locate, open_rows
from tunesmith.data.tokens import TokenView
from tunesmith.models.source import locate as locate_base
from tunesmith.models.tokenizer import load_tokenizer
from tunesmith.runs.material import Material
from tunesmith.runs.prepare import keep_tokenizer, prepare, render_settings


@dataclass(frozen=True, slots=True)
class Shown:
    """A sample of a row with its tokens, each with origin and reason.

    ``title`` tells a row's samples apart where it becomes several (``chosen``, ``1 of 3``).
    ``notes`` say what is odd about the row.
    """

    source: str
    tokens: tuple[TokenView, ...]
    title: str = ""
    notes: tuple[str, ...] = ()


def preprocess(config: RunConfig, progress: Progress = silent) -> Material:
    """The prepared data of the config, built now if it was not there."""
    return prepare(config, progress=progress)


def views(config: RunConfig, limit: int) -> Iterator[Shown]:
    """The first ``limit`` rows of each data set, rendered again with the origin of each token."""
    tokenizer = load_tokenizer(locate_base(config.model), config.tokenizer)
    kept = keep_tokenizer(tokenizer)
    for number, entry in enumerate(config.data.datasets):
        renderer = Renderer(render_settings(config, entry, tokenizer, kept))
        reader = RowReader(entry, config.data, BrokenRows())  # refused, by name, by ``preprocess``
        rows = islice(open_rows(entry, number, locate(entry, config.batch.seed)), limit)
        for source, record in reader.records(rows):
            notes = _notes(renderer, record, source)
            samples = renderer.explain(record)
            for turn, tokens in enumerate(samples, 1):
                title = f"{turn} of {len(samples)}" if len(samples) > 1 else ""
                yield Shown(str(source), tuple(tokens), title, notes)


def _notes(renderer: Renderer, record: TokenRecord, source: Source) -> tuple[str, ...]:
    """What the linter and the renderer say of one row."""
    found = [*lint_record(record), *renderer.render(record, source).lints]
    return tuple(dict.fromkeys(f"{one.code}: {one.message}" for one in found))
