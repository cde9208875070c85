"""What a run writes: so many checkpoints at once, and the model beside them."""

from __future__ import annotations

from tunesmith.checkpoint.space import Demand
from tunesmith.config.schema import RunConfig
from tunesmith.engine.cadence import Cadence
from tunesmith.models.facts import Architecture
from tunesmith.models.host_footprint import HostFootprint
from tunesmith.runs.choices import Chosen
from tunesmith.runs.memory import GIB, Layout, host_work

KEYS = ("save_total_limit", "save_only_model", "save_steps", "saves_per_epoch")


def expected_disk(
    config: RunConfig, shape: Architecture, layout: Layout, cadence: Cadence
) -> Chosen[float]:
    """GiB that lie in the output directory at the most, and what they are."""
    section = config.checkpoint
    host = HostFootprint(shape, host_work(config, layout, 0))
    weights = host.trained * host.width
    one = weights + (0 if section.weights_only else host.state)
    demand = Demand(
        checkpoint=one,
        final=weights,
        saves=cadence.saves_after(0),
        keep=section.keep,
        has_best=cadence.evaluations.unit != "never",
    )
    return Chosen(
        round(demand.n_bytes() / GIB, 3),
        f"in output_dir: {demand.at_once()} checkpoints of {one / GIB:.2f} GiB at once, and "
        f"{weights / GIB:.2f} GiB of weights at the end",
        KEYS,
    )
