"""Every trained parameter gets a gradient, and is found again after saving and reading back."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from tunesmith.checkpoint.weights import ADAPTER, read_weights, same_tensor
from tunesmith.config.flat import to_flat
from tunesmith.data.collate import collate
from tunesmith.errors import ProbeError
from tunesmith.models.host_footprint import REHEARSED_BYTES
from tunesmith.models.state import saved_tensors, trainable_state
from tunesmith.runs.preflight.probe import Subject
from tunesmith.runs.preflight.settings import keys_for, left_to_experts

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
    # An expert that no token of a few rows was sent to has none; everything else must.
    idle = [name for name in still if _EXPERT in name]
    still = [name for name in still if _EXPERT not in name]
    if still:
        raise ProbeError(
            f"{len(still)} of {len(parameters)} trained parameters get no gradient: {still[0]}",
            hint="leave the module out of lora_target_modules, or report the model",
            where=still[0],
        )
    how = _find_again(subject, parameters)
    count = sum(parameter.numel() for parameter in parameters.values())
    aside = f", {len(idle)} idle experts aside" if idle else ""
    told = f"{len(parameters)} tensors ({count:,} numbers) get a gradient{aside} and {how}"
    out = _left_out(subject)
    return f"{told}; FROZEN although asked for: {', '.join(out)}" if out else told


_EXPERT = ".experts."


def _left_out(subject: Subject) -> list[str]:
    """The names of weights that stand still although linear layers like them were to train.

    Experts that transformers keeps in one tensor are no linear layers, and where peft adapts them
    it passes over linear layers of the same name. Each kind comes once, layers' numbers left out.
    """
    asked = to_flat(subject.plan.config, all=True)
    if asked["adapter"] is None or not subject.plan.architecture.n_experts:
        return []
    model = subject.run.policy.model
    names = {
        name
        for name in left_to_experts(model)
        if any(keys_for(model, name, model.get_submodule(name), asked))
    }
    if asked["lora_target_linear"] or asked["lora_target_modules"] == "all-linear":
        names |= {
            name
            for name, parameter in model.named_parameters()
            if _EXPERT in name
            and parameter.dim() == len(("expert", "out", "in"))
            and ".lora_" not in name
            and ".base_layer." not in name
        }
    return sorted({re.sub(r"\.\d+\.", ".*.", name) for name in names})


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
    policy = subject.run.policy
    if subject.files.n_bytes() > REHEARSED_BYTES:
        shapes = {name: torch.empty_like(p, device="meta") for name, p in parameters.items()}
        named = set(saved_tensors(policy, shapes))
        _require(subject, named, {name for name, _ in subject.files.tensors()})
        return "have a name in the checkpoint (too large to rehearse a save)"
    saved = saved_tensors(policy, parameters)
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
