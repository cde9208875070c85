"""``tunesmith config``: validate, migrate, schema, explain, keys."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import click

from tunesmith.cli.failure import MAX_PROBLEMS, problem_lines, show_notices
from tunesmith.cli.migrate import migrate
from tunesmith.cli.options import (
    OVERRIDE_SETTINGS,
    Request,
    migration_hint,
    takes_files,
    takes_overrides,
)
from tunesmith.config.docs import markdown
from tunesmith.config.environment import named_machine
from tunesmith.config.explain import Explanation, rows_like
from tunesmith.config.explain import explain as explain_key
from tunesmith.config.json_schema import json_schema
from tunesmith.config.overrides import Override
from tunesmith.config.schema import RunConfig
from tunesmith.errors import ConfigError, ExitCode, Problem


@click.group()
def config() -> None:
    """Validate, explain and migrate configs, and print their schema."""


config.add_command(migrate)


@config.command(context_settings=OVERRIDE_SETTINGS)
@takes_files
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file.")
@click.option("--machine", metavar="NAME", help="Check against this machine: h100, a100-80x8, ...")
@click.option("--lenient", is_flag=True, help="Unknown keys are notices.")
@click.option(
    "--strict-keys",
    is_flag=True,
    help="Keys that do nothing here (without effect, or left out) are problems.",
)
@click.option("--sweep", hidden=True)
def validate(
    *,
    words: tuple[list[str], list[Override]],
    as_json: bool,
    machine: str | None,
    lenient: bool,
    strict_keys: bool,
    sweep: str | None,
) -> int:
    """Every problem of every FILE at once, without torch, model or network. `-` is stdin."""
    files, overrides = words
    if sweep is not None:
        raise click.UsageError("`tunesmith plan CONFIG --sweep FILE` judges each run of a sweep.")
    if machine:
        named_machine(machine)  # a wrong name is no problem of the files
    right = True
    for file in files:
        request = Request(file, tuple(overrides), lenient, strict_keys, machine)
        found = verdict(request)
        right = right and found["ok"]
        if as_json:
            click.echo(json.dumps(found))
        else:
            _show(found)
    return int(ExitCode.DONE if right else ExitCode.WRONG_INPUT)


def verdict(request: Request) -> dict[str, Any]:
    """What ``config validate --json`` prints for one file."""
    problems: Sequence[Problem] = ()
    notices: list[str] = []
    deferred: list[str] = []
    try:
        loaded = request.read(request.environment)
        notices, deferred = loaded.notices + migration_hint(loaded), loaded.deferred
    except ConfigError as error:
        unplaced = Problem("yaml", error.message, error.hint, file=request.path)
        problems = error.problems or [unplaced]
        notices = list(error.notices)
    return {
        "file": request.path,
        "ok": not problems,
        "problems": [_plain(problem) for problem in problems],
        "notices": notices,
        "deferred": deferred,
    }


def _plain(problem: Problem) -> dict[str, Any]:
    names = ("code", "key", "file", "line", "column", "message", "fix", "edit")
    return {name: getattr(problem, name) for name in names}


def _show(found: dict[str, Any]) -> None:
    if found["ok"]:
        click.echo(f"{found['file']}: {click.style('ok', fg='green')}")
        show_notices(found["notices"])
        for text in found["deferred"]:
            click.echo(f"  not checked without --machine: {text}")
        return
    number = len(found["problems"])
    click.echo(f"{found['file']}: {number} problem{'s' if number > 1 else ''}")
    for problem in found["problems"][:MAX_PROBLEMS]:
        for line in problem_lines(Problem(**problem), single=False):
            click.echo(line)
    if number > MAX_PROBLEMS:
        click.echo(f"  ... and {number - MAX_PROBLEMS} more")
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
@click.option("--machine", metavar="NAME", help="Decide for this machine: h100, a100-80x8, ...")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def explain(
    *,
    key: str,
    file: str | None,
    overrides: tuple[Override, ...],
    machine: str | None,
    as_json: bool,
) -> int:
    """What KEY means and what it is checked with; with FILE its value there and who set it.

    KEY may be an old name or another tool's: it leads to the one that is read.
    """
    if file is None and (machine or overrides):
        raise click.UsageError("`--machine` and values of keys need a FILE.")
    request = Request(file or "", overrides, machine=machine)
    examined = request.examine() if file else None
    found = explain_key(key, examined)
    if as_json:
        click.echo(json.dumps(found.to_json()))
    else:
        for label, text in _lines(found):
            if text:
                click.echo(f"{click.style(f'{label:12}', bold=True)} {text}")
    if examined is None or examined.error is None:
        return int(ExitCode.DONE)
    number = len(examined.error.problems)
    problems = f"{number} problem{'' if number == 1 else 's'}"
    click.echo(f"{file} is wrong ({problems}): see `tunesmith config validate {file}`", err=True)
    return int(ExitCode.WRONG_INPUT)


def _lines(found: Explanation) -> Iterator[tuple[str, str]]:
    yield "asked", found.asked
    yield "key", found.key
    yield "state", found.state
    yield "meaning", found.meaning
    yield "type", found.type
    yield "default", found.default
    yield "value", found.value
    yield "set by", found.source
    yield "effect", found.effect or (f"none while {found.needs}" if found.needs else "")
    for number, text in enumerate(found.said):
        yield "" if number else "said", text
    yield "read by", ", ".join(found.readers)
    yield "section", found.section
    for number, rule in enumerate(found.rules):
        yield "" if number else "checked with", rule
    for text in found.deferred:
        yield "not checked", f"{text} (name it with --machine)"


@config.command()
@click.argument("pattern", default="")
@click.option("--read", "only_read", is_flag=True, help="Only keys that are read.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a key.")
def keys(*, pattern: str, only_read: bool, as_json: bool) -> None:
    """The keys whose name or meaning holds PATTERN, and the state of those that are not read."""
    rows = [(row, state) for row, state in rows_like(pattern) if not only_read or state == "read"]
    if not rows:
        raise ConfigError(
            f"no key holds `{pattern}`", hint="`tunesmith config keys` lists all", where=pattern
        )
    width = max(len(row.key) for row, _ in rows)
    for row, state in rows:
        if as_json:
            click.echo(json.dumps({**asdict(row), "state": state}))
        elif state == "read":
            click.echo(f"{row.key:{width}}  {row.type}; default {row.default}. {row.meaning}")
        else:
            click.echo(f"{row.key:{width}}  {click.style(state, dim=True)}")
