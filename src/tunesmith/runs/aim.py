"""What a run is trained for: its objective, and what the policy is compared with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

from transformers import PreTrainedModel

from tunesmith.config.adapters import AdaptersSection
from tunesmith.config.objective import ObjectiveSection
from tunesmith.models.adapters import AdapterInfo
from tunesmith.models.policy import Policy
from tunesmith.objectives.objective import Objective
from tunesmith.objectives.reference import FrozenCopy, Referenced, adapter_off
from tunesmith.registry import registry


def build_objective(section: ObjectiveSection) -> Objective:
    """The objective that the section describes: supervised fine-tuning where it names none."""
    name = section.method or "sft"
    make = cast(Callable[[ObjectiveSection], Objective], registry("objectives").load(name))
    return make(section)


def copy_of(
    model: PreTrainedModel, objective: Objective, adapters: AdaptersSection
) -> PreTrainedModel | None:
    """A copy of a model that was handed in, where it is to be compared with what it was.

    Under an adapter the model itself stays what it was.
    """
    wanted = objective.needs_reference and adapters.kind is None
    return copy.deepcopy(model) if wanted else None


def with_reference(
    objective: Objective, load_base: Callable[[], Policy], adapter: AdapterInfo | None
) -> Objective:
    """The objective, with the base to compare with where it needs one.

    Under an adapter that is the same model with the adapter switched off, else a second one.
    """
    if not objective.needs_reference:
        return objective
    return Referenced(objective, adapter_off if adapter else FrozenCopy(load_base()))
