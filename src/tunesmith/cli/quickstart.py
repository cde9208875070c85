"""``quickstart``: the whole path on this machine, from nothing."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--output-dir",
    default="outputs/quickstart",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where the tuned adapter goes; an unfinished run there is gone on with.",
)
@click.option("--seed", type=int, help="Another seed than the recipe's.")
def quickstart(*, output_dir: Path, seed: int | None) -> None:
    """Fine-tune a small real model on data that ships with tunesmith; show what it learned."""
    from rich.console import Console as Screen

    from tunesmith.launch.local import start
    from tunesmith.models.source import locate
    from tunesmith.report.comparison import comparison_lines
    from tunesmith.report.console import Console
    from tunesmith.runs import quickstart as runs
    from tunesmith.runs.watchers import told_to

    screen = Screen()
    base, what = runs.find_model()
    screen.print(f"the model: {what}", highlight=False, soft_wrap=True)
    screen.print("asking it the held-out questions before", highlight=False)
    comparison = runs.quickstart(
        runs.make_config(base, output_dir, seed=seed),
        train=lambda config: start(config, told_to(Console(screen))).output_dir,
        base_dir=lambda config: locate(config.model).path,
    )
    for line in comparison_lines(comparison):
        screen.print(line, highlight=False, markup=False, soft_wrap=True)
