"""A small model and optimizer to save, and nothing else of a run."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from tunesmith.checkpoint.save import CheckpointStore
from tunesmith.checkpoint.state import TrainState
from tunesmith.checkpoint.weights import MODEL, ModelFiles
from tunesmith.optim.optimizer import Optimizer


def small_model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))


def small_optimizer(model: nn.Module, *, steps: int = 2) -> Optimizer:
    """An AdamW that has made some steps."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    inner = torch.optim.AdamW([{"params": list(parameters), "names": list(names)}], lr=1e-2)
    optimizer = Optimizer(inner, [1e-2])
    for step in range(steps):
        model(torch.full((2, 4), float(step + 1))).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return optimizer


def write_companions(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "small"}\n')


def store(output_dir: Path, model: nn.Module | None = None, **more: object) -> CheckpointStore:
    model = model if model is not None else small_model()
    settings: dict[str, object] = {"optimizer": small_optimizer(model)} | more
    files = ModelFiles(
        tensors=lambda: model.state_dict().items(), stem=MODEL, write_companions=write_companions
    )
    return CheckpointStore(output_dir, files, **settings)  # type: ignore[arg-type]


def save_steps(folder: Path, *steps: int, **more: object) -> None:
    writer = store(folder, **more)
    for step in steps:
        writer.save(TrainState(step=step))
