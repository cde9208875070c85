"""The held-out loss of what a run left, or of the base model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tunesmith.checkpoint import layout
from tunesmith.checkpoint.weights import ADAPTER, MODEL, has_weights, read_weights
from tunesmith.config.schema import RunConfig
from tunesmith.data.build import Progress
from tunesmith.data.prepare import silent
from tunesmith.dist import runtime
from tunesmith.engine.evaluate import evaluate as evaluate_stream
from tunesmith.errors import ExitCode, RunError
from tunesmith.models.state import fill_adapter
from tunesmith.patches.patch import applied
from tunesmith.runs.assemble import assemble
from tunesmith.runs.plan import make_plan
from tunesmith.runs.prepare import prepare


def evaluate(
    config: RunConfig, *, of_base: bool = False, progress: Progress = silent
) -> dict[str, float]:
    """``eval_loss`` and ``perplexity`` of the trained model in ``output_dir``.

    That is its newest checkpoint, or the final model where no checkpoints were kept. ``of_base``
    looks at the base model instead (an adapter at step 0 is its base).

    Raises:
        RunError: exit 2, there is no trained model, or nothing is held out.
    """
    is_adapter = config.adapters.kind is not None
    folder = None
    if not of_base:
        folder = find_trained(Path(config.checkpoint.output_dir), ADAPTER if is_adapter else MODEL)
    material = prepare(config, progress=progress)
    environment = runtime.detect()
    plan = make_plan(config, material.facts(environment))
    mesh = runtime.start(environment)
    if folder is not None and not is_adapter:
        material = replace(material, base=replace(material.base, path=folder))
    try:
        with applied(plan.patches.patches):
            run = assemble(plan, material, mesh).run
            if folder is not None and is_adapter:
                fill_adapter(run.policy, read_weights(folder, ADAPTER))
            return evaluate_stream(run)
    finally:
        runtime.stop()


def find_trained(output_dir: Path, stem: str) -> Path:
    """The newest whole checkpoint, else the folder itself where it holds the final weights.

    Raises:
        RunError: exit 2, it holds neither.
    """
    for folder in (layout.find_newest_valid(output_dir), output_dir):
        if folder is not None and has_weights(folder, stem):
            return folder
    raise RunError(
        f"{output_dir} holds no checkpoint and no trained model",
        hint="train first, or look at the base model with --base",
        where="output_dir",
        exit_code=ExitCode.WRONG_INPUT,
    )
