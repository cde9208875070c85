"""``tunesmith config migrate``: old keys become today's in the file itself, or in a diff."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from tunesmith.checkpoint.durable import force_to_disk
from tunesmith.config.migrate import Migration
from tunesmith.config.migrate import migrate as migrate_text
from tunesmith.config.read import read_text
from tunesmith.config.source import STDIN
from tunesmith.errors import ConfigError, ExitCode

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("-w", "--write", is_flag=True, help="Write the files in place of a diff.")
@click.option("--check", is_flag=True, help="Print names only; exit 2 if something is old.")
def migrate(*, files: Sequence[str], write: bool, check: bool) -> int:
    """Rewrite the old keys of each FILE as today's: a diff, or with -w the file itself.

    Comments, order, quotes and empty lines stay. Keys that are wrong or not built stay too:
    `tunesmith config validate` names those.
    """
    if write and (check or STDIN in files):
        raise click.UsageError(
            f"--write cannot go with {'--check' if check else 'stdin, which has no file'}."
        )
    found = [(file, migrate_text(*reversed(read_text(file)))) for file in files]
    for file, migration in found:
        _tell(file, migration, write=write, check=check)
    old = any(migration.rewritten for _, migration in found)
    return int(ExitCode.WRONG_INPUT if check and old else ExitCode.DONE)


def _tell(file: str, migration: Migration, *, write: bool, check: bool) -> None:
    number = len(migration.rewritten)
    keys = f"{number} old key{'' if number == 1 else 's'}"
    if not number:
        click.echo(f"{file}: nothing is old", err=not (write or check))
    elif write:
        replace_text(Path(file), migration.after)
        click.echo(f"{file}: {keys} rewritten")
    elif check:
        click.echo(f"{file}: {keys}")
    else:
        for line in _diff(file, migration):
            click.echo(line)
        click.echo(f"{file}: {keys}; `--write` rewrites them in the file", err=True)


def _diff(file: str, migration: Migration) -> Iterator[str]:
    lines = difflib.unified_diff(
        migration.before.splitlines(), migration.after.splitlines(), file, file, lineterm=""
    )
    for number, line in enumerate(lines):
        colour = None if number < 2 else _COLOURS.get(line[:1])
        yield click.style(line, fg=colour, bold=number < 2)


def replace_text(path: Path, text: str) -> None:
    """Replace a file's text in one step; its permissions and a link that leads to it stay.

    Raises:
        ConfigError: the file or its folder cannot be written.
    """
    path = path.resolve()
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    mark = b"\xef\xbb\xbf" if path.read_bytes().startswith(b"\xef\xbb\xbf") else b""
    try:
        partial.write_bytes(mark + text.encode("utf-8"))
        shutil.copymode(path, partial)
        force_to_disk(partial)
        partial.replace(path)
        force_to_disk(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigError(
            f"{path.name} cannot be written: {error.strerror or error}",
            hint="check the permissions of the file and its folder",
            where=str(path),
        ) from error
