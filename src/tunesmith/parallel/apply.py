"""The one order in which a built model is made ready for its devices.

Quantise -> adapters (both in ``models``) -> tensor/expert -> recompute -> compile -> shard. What is
off is not a step: today that leaves recompute.
"""

from __future__ import annotations

from transformers import PreTrainedModel

from tunesmith.config.memory import MemorySection
from tunesmith.dist.mesh import Mesh
from tunesmith.errors import RunError
from tunesmith.parallel.activations import recompute_blocks


def apply(model: PreTrainedModel, mesh: Mesh, memory: MemorySection) -> None:
    """Make the model ready for the mesh, in place.

    Raises:
        RunError: the mesh has more than one device.
    """
    if mesh.world_size != 1:
        raise RunError(
            f"a model cannot be shared by {mesh.world_size} devices",
            hint="start one process on one device",
            where="parallel",
        )
    if memory.gradient_checkpointing:
        recompute_blocks(model)
