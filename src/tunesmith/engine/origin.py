"""Where a number that is not finite arose: the step is run again with an eye on every tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tunesmith.data.batch import Batch
from tunesmith.engine.guard import NotFinite
from tunesmith.engine.run import Run

Phase = Literal["weights", "forward", "loss", "backward"]


@dataclass(frozen=True, slots=True)
class Origin:
    """The first bad tensor: in which ``phase``, under which name, and in which rows.

    ``rows`` are those that are bad when run alone, or all of the micro-batch where none is.
    """

    phase: Phase
    tensor: str
    rows: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = ", ".join(self.rows[:3]) + (", ..." if len(self.rows) > 3 else "")
        rows = f", with {'row' if len(self.rows) == 1 else 'rows'} {shown}" if shown else ""
        return f"{_SAID[self.phase]} `{self.tensor}`{rows}"


_SAID: Mapping[Phase, str] = {
    "weights": "it lies in the weights before the step, in",
    "forward": "it arose in the forward pass, in the output of",
    "loss": "it arose in the loss",
    "backward": "it arose in the backward pass, in the gradient of",
}


@contextmanager
def explained(run: Run) -> Iterator[None]:
    """Let a ``NotFinite`` of the body say where its number arose."""
    try:
        yield
    except NotFinite as error:
        origin = find_origin(run, error.step - 1)
        said = str(origin) if origin else "the same step run again is finite: look at the machine"
        raise NotFinite(error.step, f"{error.message}; {said}") from error


def find_origin(run: Run, step: int) -> Origin | None:
    """Where the numbers of step ``step`` (from 0) went bad; None where they are finite this time.

    The weights must be those that the step saw. They are left as they are, gradients are cleared.
    """
    for name, parameter in run.policy.model.named_parameters():
        if parameter.is_floating_point() and not _finite(parameter):
            return Origin("weights", name)
    totals = run.stream.weights(step)
    for batch in next(run.stream.from_step(step)):
        found = _probe(run, batch, totals)
        if found is not None:
            return replace(found, rows=_narrow(run, batch, totals))
    return None


def _narrow(run: Run, batch: Batch, totals: Mapping[str, float]) -> tuple[str, ...]:
    """The rows of the micro-batch that are bad alone; all of them where none is."""
    documents = [(i, source) for i, source in enumerate(batch.sources) if source]
    bad = [source for i, source in documents if _probe(run, document(batch, i), totals)]
    return tuple(bad or [source for _, source in documents])


def _probe(run: Run, batch: Batch, totals: Mapping[str, float]) -> Origin | None:
    """The first bad tensor of one forward and backward."""
    try:
        with _watching(run.policy.model) as seen:
            sums = run.forward_backward([batch], totals)
        if seen:
            return Origin("forward", seen[0])
        for name, value in sums.losses.items():
            if not _finite(value):
                return Origin("loss", name)
        # Gradients are made from the last layer to the first.
        for name, parameter in reversed(list(run.policy.model.named_parameters())):
            if parameter.grad is not None and not _finite(parameter.grad):
                return Origin("backward", name)
        return None
    finally:
        run.optimizer.zero_grad()


@contextmanager
def _watching(model: nn.Module) -> Iterator[list[str]]:
    """The names of modules in the order in which their outputs turned out bad."""
    seen: list[str] = []

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not seen and not all(_finite(tensor) for tensor in _tensors(output)):
                seen.append(name)

        return hook

    handles = [module.register_forward_hook(look(name)) for name, module in model.named_modules()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def document(batch: Batch, number: int) -> Batch:
    """One document of the micro-batch as a micro-batch of its own."""
    start, end = (int(border) for border in batch.segments[number : number + 2])

    def cut(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: tensor[start:end] if tensor.shape[:1] == (batch.n_tokens,) else tensor
            for name, tensor in tensors.items()
        }

    return Batch(
        inputs=cut(batch.inputs),
        targets=cut(batch.targets),
        segments=torch.tensor([0, end - start], dtype=batch.segments.dtype),
        longest=end - start,
        index=batch.index,
        sources=(batch.sources[number],),
    )


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, Sequence) and not isinstance(output, str):
        for value in output:
            yield from _tensors(value)


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor.detach()).all())
