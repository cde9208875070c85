"""What the policy is compared with: its base under an adapter, a second model, or what was said."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cache

from transformers import PreTrainedModel

from tunesmith.config.adapters import AdaptersSection
from tunesmith.data.build import Progress
from tunesmith.data.known import KnownReference
from tunesmith.errors import ConfigError
from tunesmith.models.policy import Policy
from tunesmith.models.source import LocatedModel
from tunesmith.objectives.objective import Objective
from tunesmith.objectives.reference import FrozenCopy, Reference, Referenced, adapter_off, itself
from tunesmith.runs.beforehand import ask_beforehand, recipe_of
from tunesmith.runs.material import Material
from tunesmith.runs.plan import RunPlan

Known = dict[str, KnownReference]
"""By split, what a reference said of its rows beforehand."""

TRAIN, HELD_OUT = "train", "held_out"
"""The splits."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a reference can be taken from.

    ``base`` is where it lies, and ``load`` gives it once more. ``has_adapter``: the policy without
    it is the base. ``is_start``: the policy itself still is. ``from_base``: a folder holds it.
    """

    base: LocatedModel
    load: Callable[[], Policy]
    has_adapter: bool
    is_start: bool
    from_base: bool


@dataclass(frozen=True, slots=True)
class Compared:
    """An objective, with its reference where it has one, and what that said beforehand."""

    objective: Objective
    known: Known = field(default_factory=dict)


def copy_of(
    model: PreTrainedModel, objective: Objective, adapters: AdaptersSection
) -> PreTrainedModel | None:
    """A copy of a model that was handed in, where it is to be compared with what it was.

    Under an adapter the model itself stays what it was.
    """
    wanted = objective.needs_reference and adapters.kind is None
    return copy.deepcopy(model) if wanted else None


def with_reference(
    objective: Objective,
    plan: RunPlan,
    material: Material,
    policy: Policy,
    sources: Sources,
    splits: Collection[str],
    progress: Progress,
) -> Compared:
    """The objective, with a reference where it needs one, and what that said of the ``splits``.

    Asked beforehand, a second model is let go of before the first step, and is not loaded where
    all answers are kept; batches of probes that are in no split are compared with the policy as it
    is.

    Raises:
        ConfigError: what the reference says cannot be kept: of a stream, or of a module without a
            folder.
    """
    section = plan.config.objective
    if not objective.needs_reference:
        return Compared(objective)
    has_own = sources.has_adapter and not section.separate_reference
    if not section.precompute_reference:
        reference = adapter_off if has_own else FrozenCopy(sources.load(), policy)
        return Compared(Referenced(objective, reference))
    _refuse_unknowable(material, sources)
    live: Reference = adapter_off if sources.has_adapter else itself

    @cache
    def asked() -> Referenced:
        is_base = sources.has_adapter or sources.is_start
        return Referenced(objective, live if is_base else FrozenCopy(sources.load(), policy))

    recipe = recipe_of(plan, sources.base)
    found = {TRAIN: (material.train, plan.train_order)}
    if material.held_out is not None:
        found[HELD_OUT] = (material.held_out, plan.held_out_order)
    known = {
        name: ask_beforehand(split, order, asked, policy, recipe, progress)
        for name, (split, order) in found.items()
        if name in splits
    }
    return Compared(Referenced(objective, live), known)


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
