"""``preprocess``: prepare the data, and show what of it trains."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from tunesmith.cli.failure import show_notices
from tunesmith.cli.options import OVERRIDE_SETTINGS, takes_overrides
from tunesmith.config.overrides import Override
from tunesmith.config.read import load

_FILE = click.Path(dir_okay=False, path_type=Path)
_ROWS_OF_A_PAGE = 20


@click.command(context_settings=OVERRIDE_SETTINGS)
@click.argument("config")
@takes_overrides
@click.option("--show", "n_shown", default=0, metavar="N", help="Show N rows of each data set.")
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
    """Prepare the data of CONFIG into the cache; show tokens, masks and the ledger."""
    if against and html is None:
        raise click.UsageError("`--against` needs `--html FILE`.")
    loaded = load(config, overrides)
    show_notices(loaded.notices)
    from rich.console import Console as Screen

    from tunesmith.data.inspect import show
    from tunesmith.report.progress import Preparing
    from tunesmith.runs.preprocess import preprocess as prepare
    from tunesmith.runs.preprocess import views

    preparing = Preparing(Screen(stderr=True))
    material = prepare(loaded.config, preparing)
    preparing.close()
    shown = list(views(loaded.config, n_shown)) if n_shown else []
    if html is not None:
        from tunesmith.runs.token_page import write_page

        other = (against, load(against, overrides).config) if against else None
        write_page(loaded.config, material, html, rows=n_shown or _ROWS_OF_A_PAGE, against=other)
        click.echo(f"{html}: open it in a browser", err=True)
    if as_json:
        for row in shown:
            click.echo(json.dumps(asdict(row), ensure_ascii=False))
        click.echo(json.dumps(material.ledger.to_json(), ensure_ascii=False))
        return
    pairs = [(f"{row.source} {row.title}".strip(), row.tokens) for row in shown]
    if pairs:
        for line in show(pairs, colour=sys.stdout.isatty(), reasons=reasons):
            click.echo(line)
        click.echo()
    for line in material.ledger.summary():
        click.echo(line)
    click.echo("from the cache" if material.from_cache else "prepared now")
