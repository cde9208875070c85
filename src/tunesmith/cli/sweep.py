"""``train --sweep`` and ``plan --sweep``: many runs of one config."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli.failure import show_notices
from tunesmith.cli.options import Request
from tunesmith.config.read import LoadedConfig
from tunesmith.config.schema import RunConfig
from tunesmith.config.sweep import SweepRun, read_sweep
from tunesmith.errors import ConfigError, Problem

if TYPE_CHECKING:
    from tunesmith.launch.sweep import Member, Outcome


def read_members(request: Request, path: str) -> list[tuple[SweepRun, RunConfig]]:
    """Each run of the sweep file with its whole config; notices are shown once.

    Raises:
        ConfigError: the sweep file or any of the configs is wrong; the runs' problems are told
            once, however many runs share them.
    """
    runs = read_sweep(path)
    read: list[tuple[SweepRun, LoadedConfig]] = []
    problems: dict[Problem, None] = {}
    n_wrong = 0
    for run in runs:
        try:
            read.append((run, request.read(request.environment, run.overrides)))
        except ConfigError as error:
            n_wrong += 1
            problems |= dict.fromkeys(error.problems)
    if n_wrong:
        raise ConfigError(
            f"{n_wrong} of the sweep's {len(runs)} runs are wrong, none was started",
            hint="correct the config or the sweep file",
            where=path,
            problems=list(problems),
        )
    show_notices(dict.fromkeys(text for _, loaded in read for text in loaded.notices))
    return [(run, _in_folder(loaded.config, run.name)) for run, loaded in read]


def _in_folder(config: RunConfig, name: str) -> RunConfig:
    """The same config with a folder of its own inside ``output_dir``."""
    section = config.checkpoint
    inside = section.model_copy(update={"output_dir": f"{section.output_dir}/{name}"})
    return config.model_copy(update={"checkpoint": inside})


def train_sweep(request: Request, path: str, *, fail_fast: bool, more: Sequence[str] = ()) -> int:
    """Run a sweep, print its table, and return the exit code: that of the first run that failed."""
    found = read_members(request, path)
    from tunesmith.launch.sweep import exit_code_of, run_sweep, start_process

    outcomes = run_sweep(
        _members(found),
        lambda file: start_process(file, more),
        fail_fast=fail_fast,
        tell=lambda line: click.secho(line, bold=True),
    )
    for line in table(outcomes):
        click.echo(line)
    return exit_code_of(outcomes)


def list_sweep(request: Request, path: str) -> list[dict[str, Any]]:
    """The runs of a sweep, which of them are finished, and where each trains to."""
    found = read_members(request, path)
    return [
        {
            "name": member.name,
            "values": dict(member.values),
            "folder": str(member.folder),
            "finished": member.is_finished,
        }
        for member in _members(found)
    ]


def _members(found: Sequence[tuple[SweepRun, RunConfig]]) -> list[Member]:
    from tunesmith.launch.sweep import Member

    return [Member(run.name, run.values, config) for run, config in found]


def table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """One line a run, the best held-out loss first where there is any."""
    from tunesmith.launch.sweep import in_words

    def rank(outcome: Outcome) -> tuple[bool, float]:
        loss = outcome.eval_loss if outcome.eval_loss is not None else outcome.loss
        return (loss is None, loss if loss is not None else 0.0)

    rows = [("run", "status", "loss", "eval loss", "tokens/s", "folder", "keys")]
    for outcome in sorted(outcomes, key=rank):
        code = f" (exit {outcome.code})" if outcome.code else ""
        rows.append(
            (
                outcome.name,
                f"{outcome.status}{code}",
                _number(outcome.loss, ".4f"),
                _number(outcome.eval_loss, ".4f"),
                _number(outcome.tokens_per_second, ",.0f"),
                outcome.folder,
                in_words(outcome.values),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
