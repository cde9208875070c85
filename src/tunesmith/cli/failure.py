"""How a failed command ends: one block that says what, where and what to change, and a code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Iterator
from typing import TextIO

import click

from tunesmith.errors import ExitCode, Problem, TunesmithError

REPORT = "This is a bug of tunesmith. Please report it with the lines above and your config."
MAX_PROBLEMS = 50


def show_error(error: TunesmithError, *, stream: TextIO | None = None, debug: bool = False) -> None:
    """Write the error's block to ``stream`` (stderr), in colour on a terminal only."""
    out = stream if stream is not None else sys.stderr
    if debug:
        out.write("".join(traceback.format_exception(error)))
    for line in error_lines(error):
        click.echo(line, file=out, color=None if out.isatty() else False)


def error_lines(error: TunesmithError) -> Iterator[str]:
    """The lines of the block: the message and hint, or each problem with its place and fix."""
    if not error.problems:
        yield _title(error.message)
        yield from _details([("at", error.where), ("fix", error.hint)])
        return
    if len(error.problems) > 1:
        yield _title(error.message)
    for problem in error.problems[:MAX_PROBLEMS]:
        yield from problem_lines(problem, single=len(error.problems) == 1)
    left = len(error.problems) - MAX_PROBLEMS
    if left > 0:
        yield f"... and {left} more"


def problem_lines(problem: Problem, *, single: bool) -> Iterator[str]:
    """A problem as ``place: key: message`` and its fix below."""
    what = f"{problem.key}: {problem.message}" if problem.key else problem.message
    if single:
        yield _title(what)
        yield from _details([("at", problem.place), ("fix", problem.fix)])
        return
    place = f"{problem.place}: " if problem.place else ""
    yield f"  {click.style(place, bold=True)}{what}"
    if problem.fix:
        yield f"      fix: {problem.fix}"


def show_notices(notices: Iterable[str], *, stream: TextIO | None = None) -> None:
    """Write one line for each notice to ``stream`` (stderr), the first ``MAX_PROBLEMS`` of them."""
    out = stream if stream is not None else sys.stderr
    said = list(notices)
    left = len(said) - MAX_PROBLEMS
    if left > 0:
        said[MAX_PROBLEMS:] = [f"... and {left} more"]
    for notice in said:
        label = click.style("note:", fg="yellow")
        click.echo(f"{label} {notice}", file=out, color=None if out.isatty() else False)


def show_bug(error: BaseException, *, stream: TextIO | None = None) -> None:
    """Write the traceback of an error that nobody foresaw, and ask for a report."""
    out = stream if stream is not None else sys.stderr
    out.write("".join(traceback.format_exception(error)))
    click.echo(REPORT, file=out)


def exit_code_of(error: BaseException) -> int:
    """The code that a command ends with after this error."""
    if isinstance(error, TunesmithError):
        return int(error.exit_code)
    return int(ExitCode.STOPPED if isinstance(error, KeyboardInterrupt) else ExitCode.BUG)


def _title(text: str) -> str:
    return f"{click.style('error:', fg='red', bold=True)} {text}"


def _details(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    for label, text in pairs:
        if text:
            yield f"  {label + ':':4} {text}"
