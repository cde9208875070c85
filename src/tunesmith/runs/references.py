"""What the policy is compared with: its base under an adapter, a second model, or what was said."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

from transformers import PreTrainedModel

from tunesmith.config.adapters import AdaptersSection
from tunesmith.data.known import KnownReference
from tunesmith.errors import ConfigError
from tunesmith.models.policy import Policy
from tunesmith.objectives.objective import Objective
from tunesmith.objectives.reference import FrozenCopy, Reference, Referenced, adapter_off, itself
from tunesmith.runs.beforehand import ask_beforehand, recipe_of
from tunesmith.runs.material import Material
from tunesmith.runs.plan import RunPlan

Known = dict[str, KnownReference]
"""By split, what a reference said of its rows beforehand."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a reference can be taken from.

    ``load`` gives the base once more. ``has_adapter``: the policy without it is the base.
    ``is_start``: the policy itself still is. ``from_base``: it is what a folder holds.
    """

    load: Callable[[], Policy]
    has_adapter: bool
    is_start: bool
    from_base: bool


def copy_of(
    model: PreTrainedModel, objective: Objective, adapters: AdaptersSection
) -> PreTrainedModel | None:
    """A copy of a model that was handed in, where it is to be compared with what it was.

    Under an adapter the model itself stays what it was.
    """
    wanted = objective.needs_reference and adapters.kind is None
    return copy.deepcopy(model) if wanted else None


def with_reference(
    objective: Objective, plan: RunPlan, material: Material, policy: Policy, sources: Sources
) -> tuple[Objective, Known]:
    """The objective, with a reference where it needs one, and what that said beforehand.

    Asked beforehand, a second model is let go of before the first step; the batches of probes,
    which run before it, are then compared with the policy as it is.

    Raises:
        ConfigError: what the reference says cannot be kept: of a stream, or of a module without a
            folder.
    """
    section = plan.config.objective
    if not objective.needs_reference:
        return objective, {}
    has_own = sources.has_adapter and not section.separate_reference
    if not section.precompute_reference:
        return Referenced(
            objective, adapter_off if has_own else FrozenCopy(sources.load(), policy)
        ), {}
    _refuse_unknowable(material, sources)
    live: Reference = adapter_off if sources.has_adapter else itself
    asked = live if sources.has_adapter or sources.is_start else FrozenCopy(sources.load(), policy)
    splits = {"train": (material.train, plan.train_order)}
    if material.held_out is not None:
        splits["held_out"] = (material.held_out, plan.held_out_order)
    known = {
        name: ask_beforehand(split, order, Referenced(objective, asked), policy, recipe_of(plan))
        for name, (split, order) in splits.items()
    }
    return Referenced(objective, live), known


def _refuse_unknowable(material: Material, sources: Sources) -> None:
    key = "precompute_ref_log_probs"
    if material.windows is not None:
        raise ConfigError(
            f"`{key}` asks about all rows before the first step, and a stream has no known end",
            hint=f"take `{key}` or `streaming` out",
            where=key,
        )
    if not sources.from_base:
        raise ConfigError(
            f"`{key}` keeps what a base says by the base's bytes, and this model was handed in",
            hint=f"take `{key}` out",
            where=key,
        )
