"""The Python face: load, plan, preview, steps, train, evaluate, merge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from tunesmith.config import read
from tunesmith.config.read import LoadedConfig
from tunesmith.config.schema import RunConfig
from tunesmith.data.samples import TokenSample
from tunesmith.dist import runtime
from tunesmith.dist.mesh import Mesh
from tunesmith.export.merge import merge as fold
from tunesmith.launch import local
from tunesmith.runs.evaluate import evaluate as evaluate_run
from tunesmith.runs.plan import RunPlan, make_plan
from tunesmith.runs.prepare import prepare, prepare_preview
from tunesmith.runs.streams import training_stream
from tunesmith.runs.train import Result
from tunesmith.runs.watchers import Watchers

Config = str | Path | Mapping[str, Any] | RunConfig | LoadedConfig
"""What every function takes: a YAML's path, a mapping of flat keys, or what ``load`` gave."""

IGNORED = -100
"""The label of a token that does not train, as everywhere in the field."""


def load(source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] = {}) -> RunConfig:
    """The config of a YAML file or a mapping of flat keys, with overrides on top.

    Raises:
        ConfigError: with every problem.
    """
    return read.load(source, overrides).config


def plan(config: Config) -> RunPlan:
    """Every derived value with its reason. Without prepared data it is estimated from a sample."""
    return local.draft(_config(config))[0]


def preview(config: Config, limit: int = 10) -> list[dict[str, Any]]:
    """The first prepared samples as plain dicts, whether they will be held out or not.

    Each has ``input_ids``, ``labels``, ``weights`` and ``source``; ``labels`` are the ids where a
    token trains and -100 elsewhere, not shifted.
    """
    samples = prepare_preview(_config(config), limit)
    return [_as_dict(samples[row]) for row in range(min(limit, len(samples)))]


def steps(config: Config, n: int) -> list[list[str]]:
    """The rows (``file:row``) of each of the first ``n`` optimizer steps, in order."""
    parsed = _config(config)
    material = prepare(parsed)
    order = make_plan(parsed, material.facts(runtime.detect())).train_order
    stream = training_stream(material.train, material.windows, order, Mesh.single("cpu"))
    return [stream.rows(step) for step in range(min(n, stream.steps))]


def train(
    config: Config,
    data: Iterable[Mapping[str, Any]] | None = None,
    model: PreTrainedModel | None = None,
    callbacks: Sequence[object] = (),
) -> Result:
    """Train, and return where the model is, the final state and the last evaluation.

    ``data`` (a ``datasets.Dataset`` or a list of rows) stands for the first data set of the config,
    ``model`` for its base model; it is trained in place. ``callbacks`` are objects with any of the
    six methods of ``tunesmith.engine.events.Callback``.
    """
    rows = None if data is None else [dict(row) for row in data]
    config = _with_objects(config, has_data=rows is not None, model=model)
    return local.start(
        _config(config), Watchers(callbacks=tuple(callbacks)), given=rows, model=model
    )


def evaluate(config: Config) -> dict[str, float]:
    """``eval_loss`` and ``perplexity`` of the trained model in ``output_dir``."""
    return evaluate_run(_config(config))


def merge(path: str | Path, output_dir: str | Path | None = None) -> Path:
    """The folder of the base model with the adapter in ``path`` folded in."""
    return fold(Path(path), None if output_dir is None else Path(output_dir))


def _with_objects(config: Config, *, has_data: bool, model: PreTrainedModel | None) -> Config:
    """A mapping of keys in which objects stand for the keys that would name them."""
    if not isinstance(config, Mapping):
        return config
    keys = dict(config)
    if has_data:
        keys.setdefault("datasets", [{"path": "data"}])
    if model is not None:
        keys.setdefault("base_model", model.name_or_path)
    return keys


def _config(config: Config) -> RunConfig:
    if isinstance(config, RunConfig):
        return config
    if isinstance(config, LoadedConfig):
        return config.config
    return load(config)


def _as_dict(sample: TokenSample) -> dict[str, Any]:
    weights = sample.target_weights()
    ids = sample.input_ids.tolist()
    return {
        "input_ids": ids,
        "labels": [i if w > 0 else IGNORED for i, w in zip(ids, weights.tolist(), strict=True)],
        "weights": weights.tolist(),
        "source": sample.source,
    }
