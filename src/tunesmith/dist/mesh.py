"""``Mesh``: named axes over all processes. All of them always exist; an unused one has size 1."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from tunesmith.errors import ConfigError

AXES = ("pipeline", "replicate", "shard", "context", "tensor", "expert")
"""From the outermost (ranks far apart) to the innermost (ranks on one host)."""

DATA_AXES = ("replicate", "shard")
"""Ranks along these read different rows; ranks along the others work on the same ones."""

LOSS_AXES = ("replicate", "shard", "context")
"""Ranks along these hold different tokens, so that sums over tokens go over them."""


@dataclass(frozen=True, slots=True)
class AxisSizes:
    """How many ranks lie along each axis; their product is the world size."""

    pipeline: int = 1
    replicate: int = 1
    shard: int = 1
    context: int = 1
    tensor: int = 1
    expert: int = 1

    def along(self, *axes: str) -> int:
        """The product of the sizes of ``axes``."""
        product = 1
        for axis in axes:
            product *= int(getattr(self, axis))
        return product


@dataclass(frozen=True, slots=True)
class Mesh:
    """Where this process stands among all. ``device_mesh`` is None where it is the only one."""

    device: torch.device
    rank: int = 0
    sizes: AxisSizes = AxisSizes()
    device_mesh: DeviceMesh | None = None
    _groups: dict[tuple[str, ...], ProcessGroup] = field(default_factory=dict, repr=False)

    @classmethod
    def single(cls, device: torch.device | str) -> Mesh:
        """The mesh of one process: every axis has size 1 and nothing is ever sent."""
        return cls(device=torch.device(device))

    @classmethod
    def build(cls, device: torch.device, sizes: AxisSizes) -> Mesh:
        """The mesh over the running process group.

        Raises ``ConfigError`` where the sizes do not multiply to the number of processes.
        """
        world = torch.distributed.get_world_size()
        if sizes.along(*AXES) != world:
            shown = ", ".join(f"{axis} {getattr(sizes, axis)}" for axis in AXES)
            raise ConfigError(
                f"{world} processes cannot be laid out as {shown}",
                hint="make the parallel sizes multiply to the number of processes",
            )
        shape = tuple(sizes.along(axis) for axis in AXES)
        device_mesh = init_device_mesh(device.type, shape, mesh_dim_names=AXES)
        groups: dict[tuple[str, ...], ProcessGroup] = {
            axes: device_mesh[axes]._flatten("_".join(axes)).get_group()
            for axes in (DATA_AXES, LOSS_AXES)
        }
        groups |= {(axis,): device_mesh.get_group(axis) for axis in AXES}
        return cls(device, torch.distributed.get_rank(), sizes, device_mesh, groups)

    @property
    def world_size(self) -> int:
        """All processes."""
        return self.sizes.along(*AXES)

    @property
    def is_main(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    @property
    def data_size(self) -> int:
        """Into how many parts a global batch is cut."""
        return self.sizes.along(*DATA_AXES)

    @property
    def data_rank(self) -> int:
        """Which of those parts is ours."""
        return self._coordinate("replicate") * self.sizes.shard + self._coordinate("shard")

    def group(self, *axes: str) -> ProcessGroup:
        """The process group along ``axes``: one axis, ``DATA_AXES`` or ``LOSS_AXES``."""
        return self._groups[axes]

    def _coordinate(self, axis: str) -> int:
        # Ranks are counted as in a row-major array of shape AXES, as init_device_mesh does.
        inner = AXES[AXES.index(axis) + 1 :]
        return self.rank // self.sizes.along(*inner) % self.sizes.along(axis)
