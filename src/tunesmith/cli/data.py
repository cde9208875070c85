"""``preprocess``: prepare the data, and show what of it trains."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from tunesmith.cli.failure import show_notices
from tunesmith.cli.options import OVERRIDE_SETTINGS, takes_overrides
from tunesmith.config.overrides import Override
from tunesmith.config.read import LoadedConfig, load

if TYPE_CHECKING:
    from tunesmith.data.ledger import Ledger
    from tunesmith.models.tokenizer_facts import TokenizerFacts
    from tunesmith.runs.material import Material
    from tunesmith.runs.preprocess import Shown

_FILE = click.Path(dir_okay=False, path_type=Path)
_ROWS_OF_A_PAGE = 20


@click.command(context_settings=OVERRIDE_SETTINGS)
@click.argument("config")
@takes_overrides
@click.option(
    "--show",
    "n_shown",
    default=0,
    metavar="N",
    help="Show N rows of each data set, here or in the page of --html.",
)
@click.option("--reasons", is_flag=True, help="With --show: why each stretch trains or not.")
@click.option("--json", "as_json", is_flag=True, help="Rows and ledger as JSON lines.")
@click.option("--html", type=_FILE, metavar="FILE", help="Write a page to look at the tokens.")
@click.option("--against", metavar="CONFIG", help="With --html: the same rows under this config.")
def preprocess(
    *,
    config: str,
    overrides: Sequence[Override],
    n_shown: int,
    reasons: bool,
    as_json: bool,
    html: Path | None,
    against: str | None,
) -> None:
    """Prepare the data of CONFIG into the cache; show tokens, masks and the ledger.

    Rows of preferences, rewards and prompts are read and shown as training reads them; nothing of
    them is cached.
    """
    if against and html is None:
        raise click.UsageError("`--against` needs `--html FILE`.")
    loaded = load(config, overrides, data_only=True)
    show_notices(loaded.notices)
    from tunesmith.runs.preprocess import known_tokenizer, views

    tokenizer = known_tokenizer(loaded.config)
    done = _prepared(loaded, tokenizer, with_model=html is not None)
    is_shown = n_shown and (html is None or as_json)
    asked = (loaded.config, n_shown, loaded.method, tokenizer)
    shown = list(views(*asked)) if is_shown else []
    if html is not None:
        from tunesmith.runs.token_page import Looked, write_page

        looked = Looked(loaded.config, loaded.method, done.ledger, done.material)
        other = (against, load(against, overrides, data_only=True)) if against else None
        beside = (other[0], other[1].config, other[1].method) if other else None
        write_page(looked, html, rows=n_shown or _ROWS_OF_A_PAGE, against=beside)
        click.echo(f"{html}: open it in a browser", err=True)
    if as_json:
        for row in shown:
            click.echo(json.dumps(asdict(row), ensure_ascii=False))
        click.echo(json.dumps(done.ledger.to_json(), ensure_ascii=False))
        return
    _show_rows(shown, reasons=reasons)
    for line in done.ledger.summary():
        click.echo(line)
    click.echo(done.ending)


class _Done(NamedTuple):
    """What was done with the rows, in words too; with the model only where a page needs it."""

    ledger: Ledger
    ending: str
    material: Material | None = None


def _prepared(loaded: LoadedConfig, tokenizer: TokenizerFacts, *, with_model: bool) -> _Done:
    """The rows prepared, or looked at where nothing can be done with them yet."""
    from rich.console import Console as Screen

    from tunesmith.report.progress import Preparing
    from tunesmith.runs.preprocess import is_looked_at, look, prepare_rows

    config = loaded.config
    preparing = Preparing(Screen(stderr=True))
    try:
        if is_looked_at(config, loaded.method):
            ledger = look(config, loaded.method, tokenizer, preparing)
            ending = "looked at, not kept: training on these rows is not built yet"
            return _Done(ledger, ending)
        if with_model or config.data.streaming:
            from tunesmith.runs.prepare import prepare

            material = prepare(config, progress=preparing)
            return _Done(material.ledger, _ending(from_cache=material.from_cache), material)
        prepared = prepare_rows(config, tokenizer, preparing)
    finally:
        preparing.close()
    return _Done(prepared.ledger, _ending(from_cache=prepared.from_cache))


def _ending(*, from_cache: bool) -> str:
    return "from the cache" if from_cache else "prepared now"


def _show_rows(shown: Iterable[Shown], *, reasons: bool) -> None:
    from tunesmith.data.inspect import Sample, show

    samples = [
        Sample(f"{row.source} {row.title}".strip(), row.tokens, row.facts, row.notes)
        for row in shown
    ]
    if samples:
        for line in show(samples, colour=sys.stdout.isatty(), reasons=reasons):
            click.echo(line)
        click.echo()
