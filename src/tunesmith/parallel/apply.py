"""The one order in which a built model is made ready for its devices.

Quantise -> adapters (both in ``models``) -> tensor/expert -> recompute and compile -> shard. What
is off is not a step.
"""

from __future__ import annotations

from transformers import PreTrainedModel

from tunesmith.dist.mesh import Mesh
from tunesmith.errors import RunError
from tunesmith.parallel.blocks import Treatment, treat_blocks


def apply(model: PreTrainedModel, mesh: Mesh, treatment: Treatment) -> None:
    """Make the model ready for the mesh, in place.

    Raises:
        RunError: the mesh has more than one device.
        ModelError: the model has no blocks to treat.
    """
    if mesh.world_size != 1:
        raise RunError(
            f"a model cannot be shared by {mesh.world_size} devices",
            hint="start one process on one device",
            where="parallel",
        )
    treat_blocks(model, treatment)
