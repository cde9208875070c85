"""The held-out loss of what a run left, or of the base model."""

from __future__ import annotations

from pathlib import Path

from tunesmith.checkpoint import layout
from tunesmith.checkpoint.load import read
from tunesmith.config.schema import RunConfig
from tunesmith.data.build import Progress
from tunesmith.data.prepare import silent
from tunesmith.dist import runtime
from tunesmith.engine.evaluate import evaluate as evaluate_stream
from tunesmith.errors import ExitCode, RunError
from tunesmith.patches.patch import applied
from tunesmith.runs.assemble import assemble
from tunesmith.runs.plan import make_plan
from tunesmith.runs.prepare import prepare


def evaluate(
    config: RunConfig, *, of_base: bool = False, progress: Progress = silent
) -> dict[str, float]:
    """``eval_loss`` and ``perplexity`` of the newest checkpoint in ``output_dir``.

    ``of_base`` looks at the base model instead (an adapter at step 0 is its base).

    Raises:
        RunError: exit 2, there is no checkpoint, or nothing is held out.
    """
    material = prepare(config, progress=progress)
    environment = runtime.detect()
    plan = make_plan(config, material.facts(environment))
    mesh = runtime.start(environment)
    saved = None
    if not of_base:
        newest = layout.find_newest_valid(Path(config.checkpoint.output_dir))
        if newest is None:
            raise RunError(
                f"{config.checkpoint.output_dir} holds no checkpoint",
                hint="train first, or look at the base model with --base",
                where="output_dir",
                exit_code=ExitCode.WRONG_INPUT,
            )
        saved = read(newest)
    with applied(plan.patches.patches):
        return evaluate_stream(assemble(plan, material, mesh, saved=saved).run)
