"""``tunesmith config migrate``: old keys become today's in the file itself, or in a diff."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from tunesmith.checkpoint.durable import force_to_disk
from tunesmith.cli.failure import show_error
from tunesmith.config.migrate import Migration
from tunesmith.config.migrate import migrate as migrate_text
from tunesmith.config.read import read_text
from tunesmith.config.source import STDIN
from tunesmith.errors import ConfigError, ExitCode

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("-w", "--write", is_flag=True, help="Write the files in place of a diff.")
@click.option("--check", is_flag=True, help="A line a file; exit 2 if one is old or broken.")
def migrate(*, files: Sequence[str], write: bool, check: bool) -> int:
    """Rewrite the old keys of each FILE as today's: a diff, or with -w the file itself.

    Comments, order, quotes and empty lines stay. Keys that are wrong or not built stay too:
    `tunesmith config validate` names those. With -w nothing is written if a FILE cannot be read.
    """
    if write and (check or STDIN in files):
        raise click.UsageError(
            f"--write cannot go with {'--check' if check else 'stdin, which has no file'}."
        )
    found, broken = _judged(files)
    for file, error in broken:
        if check:
            click.echo(f"{file}: cannot be read: {error.message} ({error.where or file})")
        else:
            show_error(error)
    if broken and write:
        return int(ExitCode.WRONG_INPUT)
    for file, migration in found:
        _tell(file, migration, write=write, check=check)
    left = any(migration.left for _, migration in found)
    old = any(migration.rewritten for _, migration in found)
    is_wrong = broken or left or (check and old)
    return int(ExitCode.WRONG_INPUT if is_wrong else ExitCode.DONE)


def _judged(
    files: Sequence[str],
) -> tuple[list[tuple[str, Migration]], list[tuple[str, ConfigError]]]:
    """Each file with what becomes of it, and those that cannot be read with the reason."""
    found: list[tuple[str, Migration]] = []
    broken: list[tuple[str, ConfigError]] = []
    for file in files:
        try:
            found.append((file, migrate_text(*reversed(read_text(file)))))
        except ConfigError as error:
            broken.append((file, error))
    return found, broken


def _tell(file: str, migration: Migration, *, write: bool, check: bool) -> None:
    number, n_left = len(migration.rewritten), len(migration.left)
    if not number and not n_left:
        click.echo(f"{file}: nothing is old", err=not (write or check))
    elif check:
        click.echo(f"{file}: {_keys(number + n_left)}")
    elif number and write:
        replace_text(Path(file), migration.after)
        click.echo(f"{file}: {_keys(number)} rewritten")
    elif number:
        for line in _diff(file, migration):
            click.echo(line)
        click.echo(f"{file}: {_keys(number)}; `--write` rewrites them in the file", err=True)
    if n_left and not check:
        said = f"{file}: {_keys(n_left)} cannot be rewritten: an anchor shares what stands there"
        click.echo(f"{said}, write it out by hand", err=True)
        for line in migration.left:
            click.echo(f"  {line}", err=True)


def _keys(number: int) -> str:
    return f"{number} old key{'' if number == 1 else 's'}"


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
