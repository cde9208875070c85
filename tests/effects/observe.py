"""What can be seen of a whole run, by name: two runs are compared by it.

A run is started as ``tunesmith train`` does it, and watched from outside: its plan, its data, its
assembled parts when the loop starts, each step, and the files that it leaves.
"""

from __future__ import annotations

import io
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer
from peft.utils.other import ModulesToSaveWrapper
from rich.console import Console as Screen
from safetensors import safe_open
from torch import nn

from tunesmith.checkpoint.state import TrainState
from tunesmith.config import read
from tunesmith.config.schema import RunConfig
from tunesmith.data import sandbox
from tunesmith.data.batch import Batch
from tunesmith.data.cache import PreparedSplit
from tunesmith.data.stream import MapStream
from tunesmith.engine.run import Run
from tunesmith.launch import local
from tunesmith.optim.schedules import OneCycle
from tunesmith.parallel.blocks import find_blocks
from tunesmith.registry import KINDS, registry
from tunesmith.report.console import Console
from tunesmith.runs.material import Material
from tunesmith.runs.plan import RunPlan
from tunesmith.runs.preflight.probe import Finding
from tunesmith.runs.watchers import Watchers, told_to

Seen = dict[str, Any]
"""Observations by name, comparable with ``==``."""


def observe(keys: Mapping[str, Any]) -> Seen:
    """Everything that is seen of the run of these flat keys.

    Raises:
        TunesmithError: the run does not come to its end.
    """
    return observe_run(read.load(keys).config)


def observe_run(config: RunConfig) -> Seen:
    """The same of sections, which no rule has judged."""
    output_dir = Path(config.checkpoint.output_dir)
    watch = Watch()
    with _log(watch.seen), _processes(watch.seen):
        local.start(config, watch.watchers())
    seen = watch.done() | _files(output_dir)
    seen["folder"] = output_dir.name
    seen["registered"] = {table: list(registry(table)) for table in KINDS}
    return seen


class Watch:
    """A callback and the watchers of one run; ``seen`` fills up as it goes."""

    def __init__(self) -> None:
        self.seen: Seen = {"run.stages": [], "run.said": [], "run.probes": {}}
        self.seen |= {"steps.threads": False, "data.processes": 0}
        self.seen |= {"evaluations.at": [], "evaluations.loss": [], "saves.at": []}
        self._steps: list[dict[str, Any]] = []
        self._text = io.StringIO()
        self._console = Console(Screen(file=self._text, width=200))

    def watchers(self) -> Watchers:
        """What a run is started with."""
        shown = told_to(self._console)
        return Watchers(
            planned=self._planned,
            stage=self.seen["run.stages"].append,
            said=self.seen["run.said"].append,
            probed=self._probed,
            finished=shown.finished,
            callbacks=(*shown.callbacks, self),
        )

    def done(self) -> Seen:
        """All of it, after the run."""
        for name in ("loss", "rate", "norm", "epoch"):
            self.seen[f"steps.{name}"] = [step[name] for step in self._steps]
        lines = self._text.getvalue().splitlines()
        self.seen["terminal.steps"] = [
            int(line.split()[1].split("/")[0]) for line in lines if line.startswith("step ")
        ]
        return self.seen

    def _probed(self, finding: Finding) -> None:
        self.seen["run.probes"][finding.name] = "left out" if finding.skipped else "ok"

    def _planned(self, plan: RunPlan, material: Material) -> None:
        self.seen |= {f"plan.{name}": choice.value for name, choice in plan.chosen()}
        self.seen |= see_data(material)

    def run_started(self, run: Run, state: TrainState) -> None:
        self.seen["run.resumed_at"] = state.step
        self.seen |= see_order(run) | see_model(run.policy.model) | see_adapter(run.policy.model)
        self.seen |= see_optimizer(run)
        self.seen |= {
            "policy.layout": run.policy.layout,
            "policy.autocast": str(run.policy.compute_dtype),
            "torch.matmul": torch.get_float32_matmul_precision(),
            "torch.deterministic": torch.are_deterministic_algorithms_enabled(),
            "saves.background": run.checkpoints.in_background,
            "guard.answer": run.report.guard.answer,
            "guard.spike": run.report.guard.spike,
        }

    def step_finished(self, run: Run, state: TrainState, report: Any) -> None:
        facts = {"loss": report.loss, "rate": report.learning_rate, "norm": report.grad_norm}
        self._steps.append(facts | {"epoch": report.epoch})
        self.seen["steps.threads"] |= _collates_ahead()

    def evaluated(self, run: Run, state: TrainState, result: Mapping[str, float]) -> None:
        self.seen["evaluations.at"].append(state.step)
        self.seen["evaluations.loss"].append(result["eval_loss"])

    def saved(self, run: Run, state: TrainState) -> None:
        self.seen["saves.at"].append(state.step)


def see_data(material: Material) -> Seen:
    """The prepared rows, the tokenizer, and what preparation says about both."""
    seen = {f"data.{name}": value for name, value in _split(material.train).items()}
    held_out = {} if material.held_out is None else _split(material.held_out)
    seen |= {f"held_out.{name}": value for name, value in held_out.items()}
    accounts = material.ledger.accounts
    tokenizer = material.tokenizer
    return seen | {
        "data.dropped": [dict(account.rows_dropped) for account in accounts],
        "data.cut": [sum(account.tokens_dropped.values()) for account in accounts],
        "data.lint": sorted(material.ledger.lint),
        "data.stops": sorted(material.stop_ids),
        "data.folder": material.train.path.parent.name,
        "template": material.template.name if material.template else None,
        "template.text": material.template.text if material.template else None,
        "tokenizer.special": dict(tokenizer.special_tokens_map),
        "tokenizer.more": list(tokenizer.extra_special_tokens),
        "tokenizer.class": type(tokenizer).__name__,
        "tokenizer.words": sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
        "base": material.base.path.name,
    }


def _split(split: PreparedSplit) -> dict[str, Any]:
    samples = [split[row] for row in range(len(split))]
    return {
        "tokens": [sample.input_ids.tolist() for sample in samples],
        "weights": [sample.target_weights().tolist() for sample in samples],
        "rows": [_row(sample.source) for sample in samples],
    }


def _row(source: str) -> str:
    """``file:row`` without the folders."""
    return Path(source).name


def see_order(run: Run) -> Seen:
    """Which rows a step takes, and how its batches are laid out."""
    seen: Seen = {"stream": type(run.stream).__name__}
    if isinstance(run.stream, MapStream):
        seen["order"] = [list(map(_row, rows)) for rows in _rows(run.stream)]
        seen |= {f"batches.{name}": value for name, value in _layout(run.stream).items()}
    if run.held_out is not None:
        assert isinstance(run.held_out, MapStream)
        seen |= {f"held_out.{name}": value for name, value in _layout(run.held_out).items()}
    return seen


def _rows(stream: MapStream) -> Iterator[list[str]]:
    return (stream.rows(step) for step in range(stream.steps))


def _layout(stream: MapStream) -> dict[str, Any]:
    steps = [stream.step_batches(step) for step in range(stream.steps)]
    batches = [batch for step in steps for batch in step]
    return {
        "micro": [len(step) for step in steps],
        "documents": [[len(batch.segments) - 1 for batch in step] for step in steps],
        "padding": [_padding(batch) for batch in batches],
    }


def _padding(batch: Batch) -> tuple[int, list[int]]:
    """How many positions are padding, and the ids in them."""
    bounds = batch.segments.tolist()
    ids = batch.inputs["input_ids"]
    pads = [
        ids[start:stop].tolist()
        for start, stop, source in zip(bounds[:-1], bounds[1:], batch.sources, strict=True)
        if not source
    ]
    return sum(map(len, pads)), sorted({token for pad in pads for token in pad})


def see_model(model: nn.Module) -> Seen:
    """The model's class, settings, numbers and what of it trains."""
    parameters = dict(model.named_parameters())
    frozen = {name: p for name, p in parameters.items() if not p.requires_grad}
    trained = {name: p for name, p in parameters.items() if p.requires_grad}
    return {
        "model.class": type(model).__name__,
        "model.settings": {
            name: value
            for name, value in model.config.to_dict().items()
            if name not in ("_name_or_path", "dtype", "quantization_config")
        },
        "model.attention": model.config._attn_implementation,
        "model.layers": dict(Counter(type(module).__name__ for module in model.modules())),
        "model.quant": _quant_state(model),
        "model.blocks": [
            getattr(vars(block).get("forward"), "__qualname__", "its own")
            for block in find_blocks(model)
        ],
        "model.frozen.dtypes": sorted({str(p.dtype) for p in frozen.values()}),
        "model.frozen.values": digest(frozen),
        "model.trained.dtypes": sorted({str(p.dtype) for p in trained.values()}),
        "model.trained.names": sorted(trained),
        "model.trained.values": digest(trained),
    }


def _quant_state(model: nn.Module) -> list[str]:
    states = (getattr(getattr(m, "weight", None), "quant_state", None) for m in model.modules())
    found = {f"{s.quant_type} nested {s.nested}" for s in states if s is not None}
    return sorted(found)


def see_adapter(model: nn.Module) -> Seen:
    """Where the adapter sits, and with which values."""
    layers = {name: m for name, m in model.named_modules() if isinstance(m, LoraLayer)}
    if not layers:
        return {"adapter.modules": []}
    return {
        "adapter.modules": sorted({name.rsplit(".", 1)[-1] for name in layers}),
        "adapter.rank": sorted({rank for m in layers.values() for rank in m.r.values()}),
        "adapter.scaling": sorted({value for m in layers.values() for value in m.scaling.values()}),
        "adapter.dropout": sorted(
            {float(getattr(d, "p", 0)) for m in layers.values() for d in m.lora_dropout.values()}
        ),
        "adapter.transposed": sorted({bool(m.fan_in_fan_out) for m in layers.values()}),
        "adapter.whole": sorted(
            name for name, m in model.named_modules() if isinstance(m, ModulesToSaveWrapper)
        ),
    }


def see_optimizer(run: Run) -> Seen:
    """The optimizer with its arguments, the rates of all steps, clipping and the loss scale."""
    inner = run.optimizer.inner
    defaults = dict(inner.defaults)
    steps = range(run.cadence.steps + 1)
    momentum = run.schedule.momentum if isinstance(run.schedule, OneCycle) else None
    groups = [
        {"names": group["names"], "decay": group["weight_decay"]} for group in inner.param_groups
    ]
    return {
        "optimizer.class": type(inner).__name__,
        "optimizer.groups": [group["names"] for group in groups],
        "optimizer.decay": [group["decay"] for group in groups],
        "optimizer.betas": inner.param_groups[0].get("betas"),
        "optimizer.epsilon": inner.param_groups[0].get("eps"),
        "optimizer.more": {
            name: value
            for name, value in defaults.items()
            if name not in ("lr", "weight_decay", "betas", "eps")
        },
        "optimizer.rates": run.optimizer.rates,
        "schedule": [round(run.schedule(step), 12) for step in steps],
        "schedule.momentum": momentum and [momentum(step) for step in steps],
        "clipping": run.max_norm,
        "loss_scale": type(run.scale).__name__,
        "dropout.seed": run.seed,
    }


def _files(output_dir: Path) -> Seen:
    """What lies in the output directory after the run, and what the final weights are."""
    names = sorted(
        str(path.relative_to(output_dir)) for path in output_dir.rglob("*") if path.is_file()
    )
    kept = sorted({name.split("/")[0] for name in names if name.startswith("checkpoint-")})
    inside = {name.partition("/")[2] for name in names if name.startswith("checkpoint-")}
    seen: Seen = {
        "saves.kept": kept,
        "saves.files": sorted(inside),
        "files": [name for name in names if not name.startswith("checkpoint-")],
    }
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(output_dir.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            tensors |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    record = json.loads((output_dir / "tunesmith.json").read_text())
    tokenizer = json.loads((output_dir / "tokenizer_config.json").read_text())
    template = output_dir / "chat_template.jinja"
    return seen | {
        "result.names": sorted(tensors),
        "result.dtypes": sorted({str(tensor.dtype) for tensor in tensors.values()}),
        "result.values": digest(tensors),
        "result.adapter": record["adapter"],
        "result.template": template.read_text() if template.exists() else None,
        "result.special": {k: v for k, v in tokenizer.items() if k.endswith("_token")},
        "metrics.steps": [
            line["step"]
            for line in map(json.loads, (output_dir / "metrics.jsonl").read_text().splitlines())
            if "loss" in line
        ],
    }


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """A hash of names, dtypes and values."""
    found = sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _collates_ahead() -> bool:
    import threading

    return any(thread.name.startswith("collate") for thread in threading.enumerate())


@contextmanager
def _processes(seen: Seen) -> Iterator[None]:
    """Counts the processes that are started to render rows."""

    class Counted(sandbox._Worker):
        def __init__(self, *args: Any) -> None:
            seen["data.processes"] += 1
            super().__init__(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "_Worker", Counted)
        yield


@contextmanager
def _log(seen: Seen) -> Iterator[None]:
    """Keep what the package logs as ``log``."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger, handler = logging.getLogger("tunesmith"), Handler(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        seen["log"] = lines


def changed(before: Seen, after: Seen, *, but: Sequence[str] = ()) -> set[str]:
    """The names of what is not the same."""
    names = before.keys() | after.keys()
    missing = object()
    return {n for n in names if before.get(n, missing) != after.get(n, missing)} - set(but)
