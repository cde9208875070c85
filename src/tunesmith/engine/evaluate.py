"""The objective over a held-out stream: a sum of losses over a sum of weights."""

from __future__ import annotations

import math

import torch

from tunesmith.checkpoint.modes import evaluating
from tunesmith.data.stream import Stream
from tunesmith.dist.collectives import sum_over
from tunesmith.engine.report import StepSums, share
from tunesmith.engine.run import Run
from tunesmith.engine.step import add
from tunesmith.errors import ExitCode, RunError

PERPLEXITY_OF = {"tokens"}
"""Only a mean over tokens is the logarithm of a perplexity."""

LARGEST_EXPONENT = 700.0
"""Beyond it the exponential is no finite double."""


def evaluate(run: Run, stream: Stream | None = None) -> dict[str, float]:
    """``eval_loss`` (and ``perplexity``) over ``stream``, by default the run's held-out one.

    Never a mean of batch means: how the rows are packed or batched does not matter. Dropout is
    off, and neither weights nor modes are changed.

    Raises:
        RunError: exit 2, there is nothing to evaluate on; exit 4, the loss is not finite.
        Abandoned: somebody asked to stop.
    """
    stream = stream if stream is not None else run.held_out
    if stream is None:
        raise _nothing_held_out()
    with run.served_weights(), evaluating(run.policy), torch.no_grad():
        sums, totals = _sum_up(run, stream)
    names = sorted(sums.losses)
    values = sum_over(run.mesh, torch.stack([sums.losses[name] for name in names])).tolist()
    parts = {name: share(value, totals[name]) for name, value in zip(names, values, strict=True)}
    loss = math.fsum(parts.values())
    if not math.isfinite(loss):
        raise _not_finite(loss)
    result = {"eval_loss": loss}
    if set(parts) == PERPLEXITY_OF:
        result["perplexity"] = math.exp(min(loss, LARGEST_EXPONENT))
    return result


def _sum_up(run: Run, stream: Stream) -> tuple[StepSums, dict[str, float]]:
    """This rank's sums over the whole stream, and the global weights."""
    sums = StepSums({}, {})
    totals: dict[str, float] = {}
    for step, microbatches in enumerate(stream.from_step(0)):
        for name, weight in stream.weights(step).items():
            totals[name] = totals.get(name, 0.0) + weight
        for batch in microbatches:
            run.report.look_up()
            add(sums, run.objective.loss(run.policy, run.shard(batch.to(run.device))))
    return sums, totals


def _nothing_held_out() -> RunError:
    return RunError(
        "there is no held-out data to evaluate on",
        hint="set val_set_size, or test_datasets",
        exit_code=ExitCode.WRONG_INPUT,
    )


def _not_finite(loss: float) -> RunError:
    return RunError(
        f"the held-out loss is {loss}",
        hint="lower learning_rate; resume from the last checkpoint",
        exit_code=ExitCode.NOT_FINITE,
    )
