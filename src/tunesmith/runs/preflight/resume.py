"""Save, go on, load what was saved, go on again: both ways end with the same weights."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunesmith.checkpoint.load import read
from tunesmith.checkpoint.save import CheckpointStore
from tunesmith.checkpoint.state import TrainState
from tunesmith.checkpoint.weights import n_bytes
from tunesmith.data.collate import collate
from tunesmith.engine.step import train_step
from tunesmith.errors import ProbeError
from tunesmith.models.state import trainable_state
from tunesmith.runs.assemble import put_back
from tunesmith.runs.preflight.probe import REHEARSED_BYTES, Subject

ROWS = 2
TOKENS = 64


def probe_resume(subject: Subject) -> str:
    """How a step after loading compares with the same step without, in a scratch folder.

    Raises:
        ProbeError: the weights differ; names the first tensor.
    """
    run = subject.run
    trained = trainable_state(run.policy)
    size = 4 * sum(n_bytes(parameter) for parameter in trained.values())
    if subject.plan.config.checkpoint.weights_only:
        return "not rehearsed: save_only_model leaves nothing to resume"
    if size > REHEARSED_BYTES or run.stream.steps < 2:
        return f"not rehearsed: {_why_not(size)}"
    with _untouched(subject, trained), tempfile.TemporaryDirectory(prefix="tunesmith-") as scratch:
        store = CheckpointStore(
            Path(scratch), subject.files, run.optimizer, extra=run.scale.to_json
        )
        _step(subject, 0)
        folder = store.save(TrainState(step=1))
        straight = _after_second(subject, trained)
        _load(subject, folder)
        shutil.rmtree(folder)
        again = _after_second(subject, trained)
    return _compare(subject, straight, again)


def _why_not(size: int) -> str:
    if size <= REHEARSED_BYTES:
        return "the run has one step"
    return f"{size / 2**30:.0f} GiB would be written; `coverage` has looked at the names"


def _step(subject: Subject, step: int) -> float:
    """A step on a few short rows: how long the run's own are does not matter here."""
    run = subject.run
    run.policy.train()
    batch = collate(subject.excerpts(ROWS, TOKENS), index=(step, 0), capacity=TOKENS)
    return train_step(run, TrainState(step=step), [batch]).loss


def _after_second(subject: Subject, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    _step(subject, 1)
    return {name: value.detach().cpu().clone() for name, value in trained.items()}


def _load(subject: Subject, folder: Path) -> None:
    run = subject.run
    with torch.no_grad():
        for parameter in trainable_state(run.policy).values():
            parameter.zero_()  # what is not loaded must not look as if it were
    put_back(run, subject.files, read(folder))


def _compare(subject: Subject, straight: Mapping[str, Tensor], again: Mapping[str, Tensor]) -> str:
    exact = subject.run.device.type == "cpu" or subject.plan.config.precision.deterministic
    for name, expected in straight.items():
        gap = float((expected.double() - again[name].double()).abs().max())
        allowed = 0.0 if exact else 1e-2 * float(expected.double().abs().max())
        if not gap <= allowed:
            raise ProbeError(
                f"a run that is stopped and resumed is another run: `{name}` differs by {gap:.2g}",
                hint="report the model and the optimizer; training without interruption is not "
                "affected",
                where=name,
            )
    how = "bit by bit" if exact else "up to the noise of its kernels"
    return f"save, load and go on equals going on, {how}"


@contextmanager
def _untouched(subject: Subject, trained: Mapping[str, Tensor]) -> Iterator[None]:
    """Weights, optimizer and loss scale are afterwards as they were."""
    run = subject.run
    weights = {name: value.detach().cpu().clone() for name, value in trained.items()}
    scale: dict[str, Any] = run.scale.to_json()
    # A run that goes on from a named checkpoint has a state already.
    tensors = {name: value.clone() for name, value in run.optimizer.state_tensors().items()}
    scalars = copy.deepcopy(run.optimizer.state_scalars())
    groups = [_settings(group) for group in run.optimizer.inner.param_groups]
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(weights[name])
        run.optimizer.load_state(tensors, scalars)
        for group, settings in zip(run.optimizer.inner.param_groups, groups, strict=True):
            group.update(settings)
        run.scale.load(scale)


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """What a schedule changes of a group: its rate, and the momentum of some."""
    return {name: group[name] for name in ("lr", "betas", "momentum") if name in group}
