"""``train``, ``check`` and ``plan``."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from tunesmith.cli.failure import show_notices
from tunesmith.cli.options import OVERRIDE_SETTINGS, takes_overrides
from tunesmith.config.environment import named_machine
from tunesmith.config.overrides import Override
from tunesmith.config.read import LoadedConfig, load


@click.command(context_settings=OVERRIDE_SETTINGS)
@click.argument("config")
@takes_overrides
@click.option("--accept-change", multiple=True, metavar="KEY", help="Go on across this change.")
@click.option("--lenient", is_flag=True, help="Unknown keys are notices.")
@click.option("--strict-keys", is_flag=True, help="Keys without effect are errors.")
def train(
    *,
    config: str,
    overrides: Sequence[Override],
    accept_change: tuple[str, ...],
    lenient: bool,
    strict_keys: bool,
) -> None:
    """Plan, check, train and export what the YAML CONFIG describes.

    The same command again goes on with an unfinished run. Any key of the config is an option too.
    """
    loaded = _load(config, overrides, lenient=lenient, strict_keys=strict_keys)
    # A wrong config is told before the seconds that torch takes to import.
    from tunesmith.launch.local import start
    from tunesmith.report.console import Console
    from tunesmith.runs.watchers import told_to

    start(loaded.config, told_to(Console()), accepted=accept_change)


@click.command(context_settings=OVERRIDE_SETTINGS)
@click.argument("config")
@takes_overrides
def check(*, config: str, overrides: Sequence[Override]) -> None:
    """Run the preflight of CONFIG on its own data and model, and train nothing."""
    loaded = _load(config, overrides)
    from tunesmith.launch.local import rehearse
    from tunesmith.report.console import Console
    from tunesmith.runs.watchers import told_to

    rehearse(loaded.config, told_to(Console()))


@click.command(context_settings=OVERRIDE_SETTINGS)
@click.argument("config")
@takes_overrides
@click.option("--prepare", "exact", is_flag=True, help="Prepare the data, for exact numbers.")
@click.option("--machine", metavar="NAME", help="Plan for another machine: h100, rtx4090, cpu, ...")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(
    *,
    config: str,
    overrides: Sequence[Override],
    exact: bool,
    machine: str | None,
    as_json: bool,
) -> None:
    """Show every value that is derived from CONFIG, and why; change nothing."""
    loaded = _load(config, overrides)
    environment = named_machine(machine) if machine else None
    from tunesmith.launch.local import draft
    from tunesmith.report.console import plan_lines

    made, _ = draft(loaded.config, environment, exact=exact)
    if as_json:
        click.echo(json.dumps(made.to_json(), indent=2))
        return
    for line in plan_lines(made):
        click.echo(line)


def _load(
    path: str, overrides: Sequence[Override], *, lenient: bool = False, strict_keys: bool = False
) -> LoadedConfig:
    """The config, its notices already shown."""
    loaded = load(path, overrides, lenient=lenient, strict_keys=strict_keys)
    show_notices(loaded.notices)
    return loaded
