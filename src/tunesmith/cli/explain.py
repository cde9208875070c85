"""``tunesmith config``: validate, migrate, schema, explain, keys."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from tunesmith.cli.failure import problem_lines, show_notices
from tunesmith.cli.migrate import migrate
from tunesmith.cli.options import OVERRIDE_SETTINGS, takes_overrides
from tunesmith.config.docs import (
    Explanation,
    json_schema,
    keys_like,
    markdown,
)
from tunesmith.config.docs import (
    explain as explain_key,
)
from tunesmith.config.environment import Environment, named_machine
from tunesmith.config.overrides import Override
from tunesmith.config.read import load
from tunesmith.config.schema import RunConfig
from tunesmith.errors import ConfigError, ExitCode, Problem


@click.group()
def config() -> None:
    """Validate, explain and migrate configs, and print their schema."""


config.add_command(migrate)


@config.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file.")
@click.option("--machine", metavar="NAME", help="Check against this machine: h100, a100-80x8, ...")
@click.option("--lenient", is_flag=True, help="Unknown keys are notices.")
@click.option("--strict-keys", is_flag=True, help="Keys without effect are problems.")
def validate(
    *, files: Sequence[str], as_json: bool, machine: str | None, lenient: bool, strict_keys: bool
) -> int:
    """Every problem of every FILE at once, without torch, model or network. `-` is stdin."""
    environment = named_machine(machine) if machine else None
    verdicts = [
        verdict(file, environment=environment, lenient=lenient, strict_keys=strict_keys)
        for file in files
    ]
    for found in verdicts:
        if as_json:
            click.echo(json.dumps(found))
        else:
            _show(found)
    right = all(found["ok"] for found in verdicts)
    return int(ExitCode.DONE if right else ExitCode.WRONG_INPUT)


def verdict(
    file: str, *, environment: Environment | None, lenient: bool, strict_keys: bool
) -> dict[str, Any]:
    """What ``config validate --json`` prints for one file."""
    problems: Sequence[Problem] = ()
    notices: list[str] = []
    deferred: list[str] = []
    try:
        loaded = load(file, lenient=lenient, strict_keys=strict_keys, environment=environment)
        notices, deferred = loaded.notices, loaded.deferred
    except ConfigError as error:
        problems = error.problems or [Problem("yaml", error.message, error.hint, file=file)]
        notices = list(error.notices)
    return {
        "file": file,
        "ok": not problems,
        "problems": [_plain(problem) for problem in problems],
        "notices": notices,
        "deferred": deferred,
    }


def _plain(problem: Problem) -> dict[str, Any]:
    whole = asdict(problem)
    names = ("code", "key", "line", "column", "message", "fix", "edit")
    return {name: whole[name] for name in names}


def _show(found: dict[str, Any]) -> None:
    if found["ok"]:
        click.echo(f"{found['file']}: {click.style('ok', fg='green')}")
        show_notices(found["notices"])
        for text in found["deferred"]:
            click.echo(f"  not checked without --machine: {text}")
        return
    number = len(found["problems"])
    click.echo(f"{found['file']}: {number} problem{'s' if number > 1 else ''}")
    for problem in found["problems"]:
        for line in problem_lines(Problem(**problem, file=found["file"]), single=False):
            click.echo(line)
    show_notices(found["notices"])


@config.command()
@click.option("--markdown", "as_markdown", is_flag=True, help="The reference as Markdown tables.")
def schema(*, as_markdown: bool) -> None:
    """The JSON schema of the YAML, for editors: every key with its type and meaning."""
    if as_markdown:
        click.echo("\n".join(markdown(section) for section in RunConfig.model_fields))
    else:
        click.echo(json.dumps(json_schema(), indent=2))


@config.command(context_settings=OVERRIDE_SETTINGS)
@click.argument("key")
@click.argument("file", required=False)
@takes_overrides
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def explain(*, key: str, file: str | None, overrides: Sequence[Override], as_json: bool) -> None:
    """What KEY means, its type and default; with FILE its value there and who set it."""
    found = explain_key(key, load(file, overrides) if file else None)
    if as_json:
        click.echo(json.dumps(found.to_json()))
        return
    for label, text in _lines(found):
        if text:
            click.echo(f"{click.style(f'{label:9}', bold=True)} {text}")


def _lines(found: Explanation) -> list[tuple[str, str]]:
    return [
        ("key", found.key),
        ("meaning", found.meaning),
        ("type", found.type),
        ("default", found.default),
        ("value", found.value),
        ("set by", found.source),
        ("effect", found.effect or (f"none while {found.needs}" if found.needs else "")),
        ("read by", ", ".join(found.readers)),
        ("section", found.section),
    ]


@config.command()
@click.argument("pattern", default="")
def keys(*, pattern: str) -> None:
    """The keys whose name or meaning holds PATTERN; all of them without it."""
    rows = keys_like(pattern)
    if not rows:
        raise ConfigError(
            f"no key holds `{pattern}`", hint="`tunesmith config keys` lists all", where=pattern
        )
    width = max(len(row.key) for row in rows)
    for row in rows:
        click.echo(f"{row.key:{width}}  {row.type}; default {row.default}. {row.meaning}")
