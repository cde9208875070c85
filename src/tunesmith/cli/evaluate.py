"""``evaluate``: the loss on held-out data."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from tunesmith.cli.failure import show_notices
from tunesmith.cli.options import OVERRIDE_SETTINGS, takes_overrides
from tunesmith.config.overrides import Override
from tunesmith.config.read import load


@click.command(context_settings=OVERRIDE_SETTINGS)
@click.argument("config")
@takes_overrides
@click.option("--base", "of_base", is_flag=True, help="Look at the base model instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(*, config: str, overrides: Sequence[Override], of_base: bool, as_json: bool) -> None:
    """The held-out loss of the trained model in CONFIG's output_dir."""
    loaded = load(config, overrides)
    show_notices(loaded.notices)
    from tunesmith.runs.evaluate import evaluate as run

    result = run(loaded.config, of_base=of_base)
    if as_json:
        click.echo(json.dumps(result))
        return
    for name, value in result.items():
        click.echo(f"{name:<12} {value:.6f}")
