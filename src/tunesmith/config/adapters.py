"""Section ``adapters``: LoRA and its kin, and what trains beside them."""

from __future__ import annotations

from typing import Any, Literal

from tunesmith.config.section import Section, key
from tunesmith.config.when import has_adapter

ADAPTED: dict[str, Any] = {"when": has_adapter, "why": "adapter is not set"}


class AdaptersSection(Section):
    """Which small matrices train in place of the base."""

    kind: Literal["lora", "qlora"] | None = key(
        None,
        "`lora`, `qlora` (4-bit base), or nothing for full fine-tuning.",
        flat="adapter",
        readers="tunesmith.runs.assemble tunesmith.runs.finish tunesmith.runs.memory "
        "tunesmith.runs.plan tunesmith.runs.precision",
    )
    rank: int = key(
        8,
        "LoRA rank.",
        flat="lora_r",
        le=65_536,
        ge=1,
        readers="tunesmith.models.adapters tunesmith.runs.memory tunesmith.runs.plan",
        **ADAPTED,
    )
    alpha: float = key(
        16,
        "LoRA alpha: the update is scaled by alpha / r.",
        flat="lora_alpha",
        le=1_000_000,
        gt=0,
        readers="tunesmith.models.adapters",
        **ADAPTED,
    )
    dropout: float = key(
        0.0,
        "Dropout before the adapter.",
        flat="lora_dropout",
        ge=0,
        lt=1,
        readers="tunesmith.models.adapters",
        **ADAPTED,
    )
    target_modules: tuple[str, ...] | str | None = key(
        None,
        "Names, or one regular expression, of the modules to adapt.",
        flat="lora_target_modules",
        readers="tunesmith.models.adapters",
        **ADAPTED,
    )
    target_linear: bool = key(
        False,
        "Adapt every linear layer but the head.",
        flat="lora_target_linear",
        readers="tunesmith.models.adapters",
        **ADAPTED,
    )
    modules_to_save: tuple[str, ...] | None = key(
        None,
        "Modules that train whole and are saved with the adapter.",
        flat="lora_modules_to_save",
        readers="tunesmith.models.adapters",
        **ADAPTED,
    )
    fan_in_fan_out: bool | None = key(
        None,
        "Whether the base stores weights transposed (Conv1D): the layers say it, a wrong value is "
        "told.",
        flat="lora_fan_in_fan_out",
        readers="tunesmith.models.adapters",
        **ADAPTED,
    )
    rslora: bool = key(
        False,
        "Scale by alpha / sqrt(r).",
        flat="peft_use_rslora",
        readers="tunesmith.models.adapters",
        **ADAPTED,
    )
