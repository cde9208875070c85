"""``train``, ``check`` and ``plan``."""

from __future__ import annotations

import json

import click

from tunesmith.cli.options import OVERRIDE_SETTINGS, Request, takes_config, takes_machine
from tunesmith.cli.sweep import list_sweep, train_sweep
from tunesmith.config.environment import Environment
from tunesmith.config.read import LoadedConfig


@click.command(context_settings=OVERRIDE_SETTINGS)
@takes_config
@click.option("--accept-change", multiple=True, metavar="KEY", help="Go on across this change.")
@click.option("--sweep", metavar="FILE", help="Train once for each combination of FILE's values.")
@click.option("--fail-fast", is_flag=True, help="With --sweep: end with the first run that fails.")
def train(
    *, request: Request, accept_change: tuple[str, ...], sweep: str | None, fail_fast: bool
) -> int | None:
    """Plan, check, train and export what the YAML CONFIG describes.

    The same command again goes on with an unfinished run. Any key of the config is an option too.
    """
    if sweep is not None:
        accepted = [word for key in accept_change for word in ("--accept-change", key)]
        return train_sweep(request, sweep, fail_fast=fail_fast, more=accepted)
    if fail_fast:
        raise click.UsageError("`--fail-fast` needs `--sweep FILE`.")
    loaded = request.load()
    # A wrong config is told before the seconds that torch takes to import.
    from tunesmith.dist.runtime import detect
    from tunesmith.launch.local import start
    from tunesmith.report.console import Console
    from tunesmith.runs.watchers import told_to

    _require_machine(request, loaded, detect())
    start(loaded.config, told_to(Console()), accepted=accept_change)
    return None


@click.command(context_settings=OVERRIDE_SETTINGS)
@takes_config
@takes_machine
def check(*, request: Request) -> None:
    """Run the preflight of CONFIG on its own data and model, and train nothing.

    With --machine the config must fit that machine; the probes run on this one.
    """
    loaded = request.load()
    from tunesmith.dist.runtime import detect
    from tunesmith.launch.local import rehearse
    from tunesmith.report.console import Console
    from tunesmith.runs.watchers import told_to

    _require_machine(request, loaded, request.environment or detect())
    rehearse(loaded.config, told_to(Console()))


@click.command(context_settings=OVERRIDE_SETTINGS)
@takes_config
@takes_machine
@click.option("--prepare", "exact", is_flag=True, help="Prepare the data, for exact numbers.")
@click.option("--sweep", metavar="FILE", help="List the runs of a sweep instead.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(*, request: Request, exact: bool, sweep: str | None, as_json: bool) -> None:
    """Show every value that is derived from CONFIG, and why; change nothing."""
    if sweep is not None:
        _show_sweep(request, sweep, as_json=as_json)
        return
    environment = request.environment
    loaded = request.load()
    from tunesmith.dist.runtime import detect
    from tunesmith.launch.local import draft
    from tunesmith.report.console import plan_lines

    environment = environment or detect()
    _require_machine(request, loaded, environment)
    made, _ = draft(loaded.config, environment, exact=exact)
    if as_json:
        click.echo(json.dumps(made.to_json(), indent=2))
        return
    for line in plan_lines(made):
        click.echo(line)


def _require_machine(request: Request, loaded: LoadedConfig, environment: Environment) -> None:
    """Decide what had to wait until the machine was known.

    Raises:
        ConfigError: the machine cannot do what the config asks for.
    """
    if loaded.deferred:
        request.read(environment)


def _show_sweep(request: Request, path: str, *, as_json: bool) -> None:
    runs = list_sweep(request, path)
    if as_json:
        click.echo(json.dumps(runs, indent=2))
        return
    for run in runs:
        keys = ", ".join(f"{key}={json.dumps(value)}" for key, value in run["values"].items())
        done = "finished" if run["finished"] else "to run"
        click.echo(f"{run['name']}  {done:8}  {run['folder']}  {keys}")
