"""``merge``: fold an adapter into its base."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("adapter_dir", type=click.Path(path_type=Path))
@click.option(
    "--output-dir", type=click.Path(path_type=Path), help="ADAPTER_DIR/merged if left out."
)
@click.option("--base-model", help="The base at another place; refused if it is another base.")
def merge(*, adapter_dir: Path, output_dir: Path | None, base_model: str | None) -> None:
    """Fold the adapter in ADAPTER_DIR into its base: one model that transformers loads."""
    from tunesmith.export.merge import merge as fold

    click.echo(f"merged into {fold(adapter_dir, output_dir, base=base_model)}")
