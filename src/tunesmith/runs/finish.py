"""After the last step: export, read back, and say in ``tunesmith.json`` that the run is done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.checkpoint.state import TrainState
from tunesmith.export.card import CardFacts, make_card
from tunesmith.export.compare import make_prompts
from tunesmith.export.final import Export, export
from tunesmith.runs.assemble import Assembled
from tunesmith.runs.material import Material
from tunesmith.runs.plan import RunPlan
from tunesmith.runs.record import as_yaml


def finish(
    assembled: Assembled,
    plan: RunPlan,
    material: Material,
    state: TrainState,
    evaluation: Mapping[str, float],
) -> Path:
    """The output directory with the final model at its top level, compared with the trained one.

    Raises:
        RunError: exit 3, no room; exit 5, what was written differs, or nothing was learned.
    """
    run = assembled.run
    record = describe(plan, material, state, evaluation)
    with run.served_weights():
        return export(
            Export(
                output_dir=Path(plan.config.checkpoint.output_dir),
                files=assembled.files,
                policy=run.policy,
                base=material.base.path if assembled.from_base else None,
                prompts=make_prompts(material.tokenizer),
                record=record,
                card=make_card(_card(plan, material, evaluation, record)),
            )
        )


def describe(
    plan: RunPlan, material: Material, state: TrainState, evaluation: Mapping[str, float]
) -> dict[str, Any]:
    """What ``tunesmith.json`` says: base, identity, how far the run went, what it reached."""
    return {
        "base": material.base.to_json(),
        "identity": dict(plan.identity),
        "adapter": plan.config.adapters.kind,
        "state": state.to_json(),
        "results": dict(evaluation),
        "determinism": plan.determinism.value,
        "versions": dict(plan.environment.versions),
    }


def _card(
    plan: RunPlan, material: Material, evaluation: Mapping[str, float], record: Mapping[str, Any]
) -> CardFacts:
    kind = plan.config.adapters.kind
    return CardFacts(
        base=material.base.original if material.base.kind == "hub" else material.base.path.name,
        method={"lora": "LoRA", "qlora": "QLoRA"}.get(kind or "", "full fine-tuning"),
        data=tuple(entry.path for entry in plan.config.data.datasets),
        results=dict(evaluation),
        config=as_yaml(plan.config),
        is_adapter=kind is not None,
        record=record,
    )
