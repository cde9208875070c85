"""Every trained parameter gets a gradient, and is found again after saving and reading back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from tunesmith.checkpoint.weights import ADAPTER, read_weights, same_tensor
from tunesmith.data.collate import collate
from tunesmith.errors import ProbeError
from tunesmith.models.state import saved_name, trainable_state
from tunesmith.runs.preflight.probe import REHEARSED_BYTES, Subject

ROWS = 4
TOKENS = 128


def probe_coverage(subject: Subject) -> str:
    """How many parameters train, and that each moves and is saved.

    Raises:
        ProbeError: a parameter has no gradient, or is missing from what was saved; a part of the
            adapter does not train.
    """
    parameters = trainable_state(subject.run.policy)
    with nudged(list(parameters.values())):
        _backward(subject)
        still = [name for name, p in parameters.items() if p.grad is None or not p.grad.any()]
    if still and not subject.plan.architecture.n_experts:
        raise ProbeError(
            f"{len(still)} of {len(parameters)} trained parameters get no gradient: {still[0]}",
            hint="leave the module out of lora_target_modules, or report the model",
            where=still[0],
        )
    how = _find_again(subject, parameters)
    count = sum(parameter.numel() for parameter in parameters.values())
    idle = f", {len(still)} idle experts aside" if still else ""
    return f"{len(parameters)} tensors ({count:,} numbers) get a gradient{idle} and {how}"


@contextmanager
def nudged(parameters: list[Tensor], size: float = 1e-3) -> Iterator[None]:
    """Parameters that are all zero (LoRA's B) hold small numbers inside, zero again afterwards.

    Behind a B of zero its A has no gradient, which would look like a frozen module.
    """
    zeros = [parameter for parameter in parameters if not parameter.any()]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in zeros:
            noise = torch.randn(parameter.shape, generator=generator) * size
            parameter.copy_(noise)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter in zeros:
                parameter.zero_()


def _backward(subject: Subject) -> None:
    """The gradient of a few short rows, left in ``.grad``."""
    run = subject.run
    rows = subject.excerpts(ROWS, TOKENS)
    batch = collate(rows, index=(0, 0), capacity=TOKENS)
    run.policy.train()
    run.policy.zero_grad(set_to_none=True)
    run.forward_backward([batch], subject.totals(rows))


def _find_again(subject: Subject, parameters: dict[str, Tensor]) -> str:
    """Save as a checkpoint would, read back, and compare every trained tensor bit by bit."""
    saved = {saved_name(subject.run.policy, name): p for name, p in parameters.items()}
    if subject.files.n_bytes() > REHEARSED_BYTES:
        _require(subject, set(saved), {name for name, _ in subject.files.tensors()})
        return "have a name in the checkpoint (too large to rehearse a save)"
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
        subject.files.write(Path(folder))
        again = dict(read_weights(Path(folder), subject.files.stem))
    _require(subject, set(saved), set(again))
    for name, parameter in saved.items():
        if not same_tensor(parameter, again[name]):
            raise ProbeError(
                f"{name} was read back with other values than were saved",
                hint="check the disk, and report the model",
                where=name,
            )
    return "are read back bit by bit"


def _require(subject: Subject, trained: set[str], found: set[str]) -> None:
    """What trains is what is saved; of a whole model, what stands still is saved as well."""
    missing = sorted(trained - found)
    if missing:
        raise ProbeError(
            f"{len(missing)} trained tensors would not be saved: {missing[0]}",
            hint="report the model; training it would lose these weights",
            where=missing[0],
        )
    frozen = sorted(found - trained) if subject.files.stem == ADAPTER else []
    if frozen:
        raise ProbeError(
            f"{len(frozen)} tensors of the adapter do not train: {frozen[0]}",
            hint="report the model; its adapter would stay what it was at the start",
            where=frozen[0],
        )
