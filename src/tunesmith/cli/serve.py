"""``generate`` and ``chat``: talk to what a run left."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def takes_sampling(function: Function) -> Function:
    """A command's function with the options that say how tokens are chosen."""
    options = (
        click.option(
            "--max-new-tokens",
            type=click.IntRange(min=1),
            default=256,
            show_default=True,
            help="At most so many.",
        ),
        click.option(
            "--temperature",
            type=click.FloatRange(min=0),
            default=0.0,
            show_default=True,
            help="0: the likeliest.",
        ),
        click.option(
            "--top-p",
            type=click.FloatRange(0, 1, min_open=True),
            default=1.0,
            show_default=True,
            help="Draw from this share only.",
        ),
        click.option("--seed", default=0, show_default=True, help="Decides what is drawn."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command()
@click.argument("model_dir", type=click.Path(path_type=Path))
@click.option(
    "--prompt", "prompts", multiple=True, help="A prompt; give several, or pipe lines in."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object an answer.")
@takes_sampling
def generate(
    *,
    model_dir: Path,
    prompts: tuple[str, ...],
    as_json: bool,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
) -> None:
    """Answer prompts with the model in MODEL_DIR: an output directory, checkpoint, or any model."""
    asked = list(prompts) or [line.strip() for line in sys.stdin if line.strip()]
    if not asked:
        raise click.UsageError("No prompt: give --prompt, or pipe one a line into the command.")
    from tunesmith.dist.runtime import detect
    from tunesmith.serve.chat import Sampling, answer, load_speaker

    speaker = load_speaker(model_dir, device=detect().device)
    sampling = Sampling(max_new_tokens, temperature, top_p, seed)
    for prompt, text in zip(asked, answer(speaker, asked, sampling), strict=True):
        if as_json:
            click.echo(json.dumps({"prompt": prompt, "answer": text}, ensure_ascii=False))
        else:
            click.echo(f"{click.style(prompt, dim=True)}\n{text}\n" if len(asked) > 1 else text)


@click.command()
@click.argument("model_dir", type=click.Path(path_type=Path))
@takes_sampling
def chat(
    *, model_dir: Path, max_new_tokens: int, temperature: float, top_p: float, seed: int
) -> None:
    """Talk to the model in MODEL_DIR; /reset forgets, /exit ends."""
    from tunesmith.dist.runtime import detect
    from tunesmith.serve.chat import Sampling, load_speaker
    from tunesmith.serve.chat import chat as talk

    speaker = load_speaker(model_dir, device=detect().device)
    talk(
        speaker,
        Sampling(max_new_tokens, temperature, top_p, seed),
        write=lambda piece: click.echo(piece, nl=False),
    )
