"""Prepare the data and show it as the model will see it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from tunesmith.config.schema import RunConfig
from tunesmith.data.build import Progress
from tunesmith.data.formats.options import FormatOptions, load_format
from tunesmith.data.prepare import silent
from tunesmith.data.records import RowError
from tunesmith.data.render import Renderer
from tunesmith.data.sources import locate, open_rows
from tunesmith.data.tokens import TokenView
from tunesmith.models.source import locate as locate_base
from tunesmith.models.tokenizer import load_tokenizer
from tunesmith.runs.material import Material
from tunesmith.runs.prepare import keep_tokenizer, prepare, render_settings


@dataclass(frozen=True, slots=True)
class Shown:
    """A row with its tokens, each with origin and reason."""

    source: str
    tokens: tuple[TokenView, ...]


def preprocess(config: RunConfig, progress: Progress = silent) -> Material:
    """The prepared data of the config, built now if it was not there."""
    return prepare(config, progress=progress)


def views(config: RunConfig, limit: int) -> Iterator[Shown]:
    """The first ``limit`` rows of each data set, rendered again with the origin of each token."""
    tokenizer = load_tokenizer(locate_base(config.model), config.tokenizer)
    kept = keep_tokenizer(tokenizer)
    for number, entry in enumerate(config.data.datasets):
        renderer = Renderer(render_settings(config, entry, tokenizer, kept))
        read, options = load_format(entry), FormatOptions.of(entry, config.data)
        for source, row in islice(open_rows(entry, number, locate(entry)), limit):
            if isinstance(row, RowError):
                continue  # named, and refused, by ``preprocess``
            for tokens in renderer.explain(read(row, options)):
                yield Shown(str(source), tuple(tokens))
