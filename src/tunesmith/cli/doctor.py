"""``doctor``: this machine, its versions, and what would be used."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, which --machine reads.")
def doctor(*, as_json: bool) -> None:
    """Show the machine, the versions of what matters, and which kernels would be used and why."""
    from tunesmith.config.environment import to_json
    from tunesmith.runs.diagnose import diagnose

    report = diagnose()
    if as_json:
        content = {"environment": to_json(report.environment), "checks": report.to_json()}
        click.echo(json.dumps(content, indent=2))
        return
    for line in report.lines():
        click.echo(line)
