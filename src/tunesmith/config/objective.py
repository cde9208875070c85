"""Section ``objective``: what is trained for, and the numbers of each preference loss."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator

from tunesmith.config.section import Section, key

Method = Literal["dpo", "ipo", "orpo", "simpo", "kto"]
"""What ``rl`` may name."""

DpoLoss = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]
"""The losses of DPO that can be mixed."""

SMOOTHED_LOSSES = frozenset({"sigmoid", "exo_pair", "robust", "aot", "aot_unpaired"})
"""Those that read ``dpo_label_smoothing``."""

MARGIN_LOSSES = frozenset(
    {"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"}
)
"""Those of the difference of two rewards (or of no reward), which any divergence may define."""

SORTED_LOSSES = frozenset({"aot", "aot_unpaired"})
"""Those that compare the pairs of a whole step with each other."""

_LOSS_READER = "tunesmith.objectives.pair_losses"
_JUDGED_READER = "tunesmith.objectives.judged_losses"


def _is(*methods: str) -> Any:
    def when(config: Any) -> bool:
        return config.objective.method in methods

    return when


def _has_reference(config: Any) -> bool:
    section: ObjectiveSection = config.objective
    return section.method in ("dpo", "ipo", "kto") and not section.reference_free


def _mixes(losses: frozenset[str]) -> Any:
    def when(config: Any) -> bool:
        section: ObjectiveSection = config.objective
        return section.method == "dpo" and bool(losses & set(section.loss_types))

    return when


def _only(*methods: str) -> dict[str, Any]:
    named = " or ".join(f"`rl: {method}`" for method in methods)
    return {"when": _is(*methods), "why": f"only {named} reads it"}


class ObjectiveSection(Section):
    """What is trained for. Without `rl`, answers are learnt as they are (supervised)."""

    method: Method | None = key(
        None,
        "The preference method; nothing for supervised training. `simpo` is CPO too: "
        "see `cpo_loss_type`.",
        flat="rl",
        readers=f"{_LOSS_READER} {_JUDGED_READER} tunesmith.objectives.judged "
        "tunesmith.objectives.pairs tunesmith.runs.aim tunesmith.runs.request",
    )
    beta: float | None = key(
        None,
        "How strongly answers are held to the reference (DPO, IPO, KTO), or the scale of the "
        "reward (SimPO, ORPO). 0.1 unless given.",
        flat="rl_beta",
        gt=0,
        le=1_000,
        readers=f"{_LOSS_READER} {_JUDGED_READER}",
        when=lambda config: config.objective.method is not None,
        why="`rl` is not set",
    )
    loss_types: tuple[DpoLoss, ...] = key(
        ("sigmoid",),
        "The losses of DPO, added up.",
        flat="dpo_loss_type",
        min_length=1,
        readers=_LOSS_READER,
        alters_training=True,
        **_only("dpo"),
    )
    loss_weights: tuple[float, ...] | None = key(
        None,
        "The weight of each of `dpo_loss_type`; 1 for each unless given.",
        flat="dpo_loss_weights",
        readers=_LOSS_READER,
        alters_training=True,
        **_only("dpo"),
    )
    label_smoothing: float = key(
        0.0,
        "The share of pairs that may be labelled the wrong way round.",
        flat="dpo_label_smoothing",
        ge=0,
        lt=1,
        when=_mixes(SMOOTHED_LOSSES),
        why="none of `dpo_loss_type` reads it",
        alters_training=True,
        readers=_LOSS_READER,
    )
    use_weighting: bool = key(
        False,
        "Weigh each pair by how likely the policy is to write its two answers (WPO).",
        flat="dpo_use_weighting",
        readers=_LOSS_READER,
        **_only("dpo"),
    )
    divergence: Literal["reverse_kl", "forward_kl", "js", "alpha"] = key(
        "reverse_kl",
        "The divergence from the reference that the reward of DPO is derived from.",
        flat="dpo_divergence",
        readers=_LOSS_READER,
        **_only("dpo"),
    )
    divergence_alpha: float = key(
        0.5,
        "The alpha of `dpo_divergence: alpha`; 1 is `reverse_kl`.",
        flat="dpo_divergence_alpha",
        ge=0,
        le=10,
        when=lambda config: config.objective.divergence == "alpha",
        why="`dpo_divergence` is not `alpha`",
        readers=_LOSS_READER,
    )
    tail_weight: float = key(
        1.0,
        "What tokens beyond the length that both answers have weigh (LD-DPO's alpha): 0 compares "
        "equally long beginnings, 1 whole answers.",
        flat="dpo_tail_weight",
        ge=0,
        le=1,
        readers=_LOSS_READER,
        **_only("dpo"),
    )
    temperature: float = key(
        0.05,
        "The temperature of `discopop`.",
        flat="dpo_discopop_temperature",
        gt=0,
        le=100,
        when=_mixes(frozenset({"discopop"})),
        why="`discopop` is not among `dpo_loss_type`",
        readers=_LOSS_READER,
    )
    reference_free: bool = key(
        False,
        "Compare the policy's own log-probs: the reference finds every answer equally likely.",
        flat="dpo_reference_free",
        readers=_LOSS_READER,
        **_only("dpo", "ipo"),
    )
    odds_weight: float | None = key(
        None,
        "The weight of ORPO's odds ratio beside its cross-entropy; `rl_beta` unless given.",
        flat="orpo_alpha",
        gt=0,
        le=1_000,
        readers=_LOSS_READER,
        **_only("orpo"),
    )
    simpo_margin: float = key(
        0.5,
        "SimPO's gamma: by how much the better answer's reward is to exceed the other's.",
        flat="simpo_gamma",
        ge=0,
        le=1_000,
        readers=_LOSS_READER,
        when=lambda config: (
            config.objective.method == "simpo" and config.objective.cpo_loss == "simpo"
        ),
        why="only `rl: simpo` with `cpo_loss_type: simpo` reads it",
    )
    cpo_loss: Literal["simpo", "sigmoid", "hinge", "ipo"] = key(
        "simpo",
        "The loss of `rl: simpo`; `sigmoid` is CPO.",
        flat="cpo_loss_type",
        readers=_LOSS_READER,
        **_only("simpo"),
    )
    cpo_alpha: float = key(
        1.0,
        "The weight of the better answer's cross-entropy beside SimPO or CPO; 0 leaves it out.",
        flat="cpo_alpha",
        ge=0,
        le=1_000,
        readers=_LOSS_READER,
        **_only("simpo"),
    )

    kto_loss: Literal["kto", "apo_zero_unpaired"] = key(
        "kto",
        "The loss of `rl: kto`; `apo_zero_unpaired` compares with the reference itself, and not "
        "with how far the policy has moved from it on the whole.",
        flat="kto_loss_type",
        readers=_JUDGED_READER,
        **_only("kto"),
    )
    desirable_weight: float = key(
        1.0,
        "What a good answer weighs.",
        flat="kto_desirable_weight",
        ge=0,
        le=1_000,
        readers=_JUDGED_READER,
        **_only("kto"),
    )
    undesirable_weight: float = key(
        1.0,
        "What a bad answer weighs.",
        flat="kto_undesirable_weight",
        ge=0,
        le=1_000,
        readers=_JUDGED_READER,
        **_only("kto"),
    )

    precompute_reference: bool = key(
        False,
        "Ask the reference about all rows before the first step, and keep what it says: later "
        "epochs and runs ask no more, and full fine-tuning needs no second model in memory.",
        flat="precompute_ref_log_probs",
        readers="tunesmith.runs.memory tunesmith.runs.preflight.answers tunesmith.runs.references",
        when=_has_reference,
        why="the loss reads no reference",
    )
    separate_reference: bool = key(
        False,
        "Load the base a second time as the reference, where it could be the trained model with "
        "its adapter switched off.",
        flat="rl_adapter_ref_model",
        readers="tunesmith.runs.memory tunesmith.runs.references",
        when=lambda config: (
            _has_reference(config)
            and config.adapters.kind is not None
            and not config.objective.precompute_reference
        ),
        why="only a run with an adapter and a loss that reads a live reference does",
    )

    @field_validator("loss_types", "loss_weights", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | int | float) else value
