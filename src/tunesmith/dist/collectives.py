"""The few collectives that we use. With one process each gives back what it got."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import torch.distributed
from torch import Tensor

from tunesmith.dist.mesh import LOSS_AXES, Mesh

T = TypeVar("T")


def sum_over(mesh: Mesh, tensor: Tensor, axes: tuple[str, ...] = LOSS_AXES) -> Tensor:
    """The sum of ``tensor`` over the ranks along ``axes``; the argument itself is not changed.

    No gradient flows through it.
    """
    if mesh.sizes.along(*axes) == 1:
        return tensor
    total = tensor.detach().clone()
    torch.distributed.all_reduce(total, group=mesh.group(*axes))
    return total


def gather_objects(mesh: Mesh, item: T) -> list[T]:
    """What every process holds, by rank. For small plain data."""
    if mesh.world_size == 1:
        return [item]
    gathered: list[T | None] = [None] * mesh.world_size
    torch.distributed.all_gather_object(gathered, item)
    return cast("list[T]", gathered)


@contextmanager
def main_first(mesh: Mesh) -> Iterator[None]:
    """Run the body on the main process first, and only then on the others.

    They wait for it also when it fails there, so that nobody waits for ever.
    """
    if mesh.world_size == 1:
        yield
        return
    if not mesh.is_main:
        torch.distributed.barrier()
    try:
        yield
    finally:
        if mesh.is_main:
            torch.distributed.barrier()
