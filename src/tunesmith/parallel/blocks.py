"""A model's repeated blocks: recomputed in the backward pass, compiled once for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from tunesmith.errors import ModelError

Forward = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Treatment:
    """What is done to the blocks of a model.

    The first ``n_recomputed`` make their activations again in the backward pass. With
    ``compiled_tokens`` all are compiled, for rows of exactly so many tokens; inputs of any other
    shape (probes, evaluation of short rows) take the block as it is, so that nothing is compiled
    twice.
    """

    n_recomputed: int = 0
    compiled_tokens: int | None = None
    backend: str = "inductor"

    @property
    def is_none(self) -> bool:
        """Whether the blocks stay as they are."""
        return self.n_recomputed == 0 and self.compiled_tokens is None


def find_blocks(model: nn.Module) -> list[GradientCheckpointingLayer]:
    """The model's repeated blocks, in order; a block inside of another one is no block."""
    found: list[GradientCheckpointingLayer] = []
    names: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in names)
        if isinstance(module, GradientCheckpointingLayer) and not inside:
            found.append(module)
            names.append(name)
    return found


def treat_blocks(model: nn.Module, treatment: Treatment) -> None:
    """Give each block of the model the treatment, in place; names of parameters stay.

    Each block's own ``forward`` stays reachable below, so hooks, adapters and ``state_dict`` see no
    difference. ``release_blocks`` undoes it. Recomputing restores the generators (dropout draws the
    same twice) and is not reentrant (frozen inputs do no harm).

    Raises:
        ModelError: the model has no blocks.
    """
    if treatment.is_none:
        return
    blocks = find_blocks(model)
    if not blocks:
        raise ModelError(
            f"{type(model).__name__} has no repeated blocks that could be recomputed or compiled",
            hint="set gradient_checkpointing: false and torch_compile: false",
            where="gradient_checkpointing",
        )
    compiled = None
    if treatment.compiled_tokens is not None:
        compiled = torch.compile(_own_forward, dynamic=False, backend=treatment.backend)
    for number, block in enumerate(blocks):
        call = _by_shape(block, compiled, treatment.compiled_tokens)
        block.forward = _recomputing(block, call) if number < treatment.n_recomputed else call


def release_blocks(model: nn.Module) -> None:
    """Undo ``treat_blocks``."""
    for block in find_blocks(model):
        vars(block).pop("forward", None)


def _own_forward(block: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
    """What the block's class does. One function for all blocks: they share what is compiled."""
    return type(block).forward(block, *args, **kwargs)


def _by_shape(block: nn.Module, compiled: Forward | None, tokens: int | None) -> Forward:
    """The compiled block for rows of ``tokens``, the block as it is for all others."""

    def call(*args: Any, **kwargs: Any) -> Any:
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        if compiled is None or hidden.shape[1] != tokens:
            return _own_forward(block, *args, **kwargs)
        return compiled(block, *args, **kwargs)

    return call


def _recomputing(block: nn.Module, call: Forward) -> Forward:
    """The same, its activations made again where a gradient is wanted and the block trains."""

    def recompute(*args: Any, **kwargs: Any) -> Any:
        if not (block.training and torch.is_grad_enabled()):
            return call(*args, **kwargs)
        return checkpoint(call, *args, use_reentrant=False, preserve_rng_state=True, **kwargs)

    return recompute
