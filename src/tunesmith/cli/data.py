"""``preprocess``: prepare the data, and show what of it trains."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunesmith.cli.failure import show_notices
from tunesmith.cli.options import OVERRIDE_SETTINGS, takes_overrides
from tunesmith.config.overrides import Override
from tunesmith.config.read import LoadedConfig, load

if TYPE_CHECKING:
    from tunesmith.data.ledger import Ledger
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

    Rows of preferences, rewards and prompts are read and shown, although training on them is not
    built yet; nothing of them is cached.
    """
    if against and html is None:
        raise click.UsageError("`--against` needs `--html FILE`.")
    loaded = load(config, overrides, data_only=True)
    show_notices(loaded.notices)
    from tunesmith.runs.preprocess import views

    material, ledger = _prepared(loaded)
    is_shown = n_shown and (html is None or as_json)
    shown = list(views(loaded.config, n_shown, loaded.method)) if is_shown else []
    if html is not None:
        from tunesmith.runs.token_page import Looked, write_page

        looked = Looked(loaded.config, loaded.method, ledger, material)
        other = (against, load(against, overrides, data_only=True)) if against else None
        beside = (other[0], other[1].config, other[1].method) if other else None
        write_page(looked, html, rows=n_shown or _ROWS_OF_A_PAGE, against=beside)
        click.echo(f"{html}: open it in a browser", err=True)
    if as_json:
        for row in shown:
            click.echo(json.dumps(asdict(row), ensure_ascii=False))
        click.echo(json.dumps(ledger.to_json(), ensure_ascii=False))
        return
    _show_rows(shown, reasons=reasons)
    for line in ledger.summary():
        click.echo(line)
    click.echo(_ending(material))


def _prepared(loaded: LoadedConfig) -> tuple[Material | None, Ledger]:
    """The prepared data and its ledger; no data where it can only be looked at."""
    from rich.console import Console as Screen

    from tunesmith.report.progress import Preparing
    from tunesmith.runs.prepare import prepare
    from tunesmith.runs.preprocess import is_looked_at, look

    preparing = Preparing(Screen(stderr=True))
    try:
        if is_looked_at(loaded.config, loaded.method):
            return None, look(loaded.config, loaded.method, preparing)
        material = prepare(loaded.config, progress=preparing)
    finally:
        preparing.close()
    return material, material.ledger


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


def _ending(material: Material | None) -> str:
    if material is None:
        return "looked at, not kept: training on these rows is not built yet"
    return "from the cache" if material.from_cache else "prepared now"
