"""``cache``: what lies in the cache of prepared data, why it was found or not, and clearing it."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import click

from tunesmith.cli.options import OVERRIDE_SETTINGS, Request, takes_config
from tunesmith.errors import DataError, ExitCode

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_FOLDER = click.Path(file_okay=False, path_type=Path)

_takes_folder = click.option(
    "--path",
    "folder",
    type=_FOLDER,
    help="The cache's folder, where `dataset_prepared_path` is set.",
)
_takes_json = click.option("--json", "as_json", is_flag=True, help="The same as JSON.")


@click.group()
def cache() -> None:
    """Look into the cache of prepared data, and clear it."""


@cache.command("list")
@_takes_folder
@_takes_json
def list_entries(*, folder: Path | None, as_json: bool) -> None:
    """What is there, the most recently used first."""
    from tunesmith.data.catalogue import entries

    found = entries(_folder(folder))
    if as_json:
        click.echo(json.dumps([_as_json(entry) for entry in found], indent=1))
        return
    for entry in found:
        click.echo(_line(entry))
    click.echo(f"{len(found)} entries, {_bytes(sum(entry.size for entry in found))}")


@cache.command(context_settings=OVERRIDE_SETTINGS)
@takes_config
@_takes_json
def explain(*, request: Request, as_json: bool) -> None:
    """Is the data of CONFIG in the cache, stage by stage; if not, what changed."""
    config = request.load().config
    from tunesmith.runs.cache import explain as explain_stages

    stages = explain_stages(config)
    if as_json:
        click.echo(json.dumps([stage.to_json() for stage in stages], indent=1))
        return
    for stage in stages:
        click.echo(f"{'hit ' if stage.is_hit else 'miss'}  {stage.what}  ({stage.key})")
        if stage.nearest is not None:
            click.echo(f"      nearest: {stage.nearest.key}, which differs in")
            for difference in stage.nearest.differences:
                click.echo(f"        {difference}")
        elif not stage.is_hit:
            click.echo("      nothing like it was prepared before")


@cache.command()
@_takes_folder
@click.option("--older-than", metavar="AGE", help="Remove what was not used for so long: 30d, 12h.")
@click.option("--max-size", metavar="SIZE", help="Remove the longest unused beyond so much: 20GB.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@_takes_json
def gc(
    *,
    folder: Path | None,
    older_than: str | None,
    max_size: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove unfinished and damaged entries, and what the limits do not allow."""
    age = _number("--older-than", older_than, _SECONDS, "30d")
    size = _number("--max-size", max_size, _UNITS, "20GB")
    from tunesmith.data.catalogue import Limits, collect

    limits = Limits(age, None if size is None else int(size))
    removed = collect(_folder(folder), limits, time.time(), dry_run=dry_run)
    if as_json:
        click.echo(json.dumps([_as_json(entry) for entry in removed], indent=1))
        return
    for entry in removed:
        click.echo(_line(entry))
    done = "would be removed" if dry_run else "removed"
    click.echo(f"{done}: {len(removed)} entries, {_bytes(sum(entry.size for entry in removed))}")


@cache.command()
@_takes_folder
@_takes_json
def verify(*, folder: Path | None, as_json: bool) -> None:
    """Compare every byte with the hash that was written; what is damaged is built again in use."""
    from tunesmith.data.catalogue import verify as verify_all

    wrong = [str(path) for path in verify_all(_folder(folder))]
    if as_json:
        click.echo(json.dumps(wrong, indent=1))
    if wrong:
        raise DataError(
            f"{len(wrong)} files of the cache are damaged, the first is {wrong[0]}",
            hint="`tunesmith cache gc` removes what is incomplete; what is damaged is built again "
            "when it is used",
            where=wrong[0],
            exit_code=ExitCode.DAMAGED,
        )
    if not as_json:
        click.echo("every byte is as it was written")


def _folder(given: Path | None) -> Path:
    if given is not None:
        return given
    from tunesmith.runs.cache import prepared_dir

    return prepared_dir()


def _number(option: str, text: str | None, units: dict[str, int], example: str) -> float | None:
    """A number with a unit as a plain one; None where the option was not given."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]?)(?:i?b)?\s*", text.lower())
    if match is None or match[2] not in units:
        raise click.BadParameter(f"`{text}` is none; write it like {example}", param_hint=option)
    return float(match[1]) * units[match[2]]


def _line(entry: Any) -> str:
    state = entry.kind if entry.is_whole or entry.kind == "unfinished" else "incomplete"
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
    return f"{state:<10}  {_bytes(entry.size):>9}  {used}  {entry.key}  {', '.join(entry.names)}"


def _as_json(entry: Any) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "key": entry.key,
        "path": str(entry.path),
        "bytes": entry.size,
        "used": entry.used,
        "data_sets": list(entry.names),
        "whole": entry.is_whole,
    }


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
