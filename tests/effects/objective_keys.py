"""Cases for the keys of objectives: what is trained for, and the numbers of each loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tests.effects.case import LEARNS, Became, Case, differs
from tests.effects.data_keys import ANSWERS, TEXTS, text
from tests.effects.ground import FULL

PAIRS = [{"path": "GROUND/pairs.jsonl", "type": "dpo"}]
JUDGED = [{"path": "GROUND/judged.jsonl", "type": "kto"}]

DPO: Mapping[str, Any] = {"datasets": PAIRS, "rl": "dpo"}
ORPO: Mapping[str, Any] = {"datasets": PAIRS, "rl": "orpo"}
SIMPO: Mapping[str, Any] = {"datasets": PAIRS, "rl": "simpo", "rl_beta": 2.0}
KTO: Mapping[str, Any] = {"datasets": JUDGED, "rl": "kto"}

TURNS: Mapping[str, Any] = {"datasets": [{**PAIRS[0], "type": "chat_template"}], "rl": "dpo"}

LATER = LEARNS - {"steps.loss"}
"""What follows of another loss beside the loss itself."""


def first(wanted_before: float, wanted_after: float) -> Any:
    """A check that the first step's loss was one number and is another."""

    def check(before: list[float], after: list[float]) -> bool:
        wanted = (wanted_before, wanted_after)
        return all(
            math.isclose(found, value, abs_tol=1e-4)
            for found, value in zip((before[0], after[0]), wanted, strict=True)
        )

    return check


def scaled(factor: float) -> Any:
    """A check that the first gradient is that many times as long."""

    def check(before: list[float], after: list[float]) -> bool:
        return math.isclose(after[0], factor * before[0], rel_tol=1e-3)

    return check


def texts(says: str, now: str, *, whole: bool = True, at: int = 0) -> Any:
    """A check that one document has ``now`` where it had ``says``: as its beginning (``whole``), or
    as its answer. ``at`` is the document's place.
    """

    def check(before: list[list[int]], after: list[list[int]]) -> bool:
        old, new = text(before[at]).rstrip(), text(after[at]).rstrip()
        if whole:
            return old.startswith(says) and new == now + old.removeprefix(says)
        return old.endswith(says) and new == old.removesuffix(says) + now

    return check


def losses(*wanted: str) -> dict[str, Any]:
    return {"dpo_loss_type": list(wanted)}


LN2 = math.log(2)

DPO_KEYS = (
    Case("rl_beta", 0.5, {"steps.norm": scaled(5)}, LEARNS - {"steps.norm"}, DPO),
    Case("dpo_loss_type", ["hinge"], {"steps.loss": first(LN2, 1)}, LATER, DPO),
    Case(
        "dpo_loss_weights",
        [2.0, 0.5],
        {"steps.loss": first(LN2 + 1, 2 * LN2 + 0.5)},
        LATER,
        DPO | losses("sigmoid", "hinge"),
    ),
    # The slope at the start is that of the log-sigmoid, less as much of its mirror image.
    Case("dpo_label_smoothing", 0.25, {"steps.norm": scaled(0.5)}, LEARNS - {"steps.norm"}, DPO),
    Case("dpo_use_weighting", True, {"steps.loss": lambda a, b: 0 < b[0] < a[0]}, LATER, DPO),
    # The slope of the reward at the start is 1 with the reverse KL, and a half with JS.
    Case("dpo_divergence", "js", {"steps.norm": scaled(0.5)}, LEARNS - {"steps.norm"}, DPO),
    Case(
        "dpo_divergence_alpha",
        0.9,
        {"steps.loss": lambda a, b: a[0] == b[0] and a[1] != b[1]},
        LATER,
        DPO | {"dpo_divergence": "alpha"},
    ),
    Case("dpo_tail_weight", 0.0, {"steps.norm": differs}, LEARNS - {"steps.norm"}, DPO),
    Case(
        "dpo_discopop_temperature",
        0.5,
        {"steps.norm": differs},
        LEARNS - {"steps.norm"},
        DPO | losses("discopop"),
    ),
    Case(
        "dpo_reference_free",
        True,
        {
            "reference": Became("adapter_off", "nobody"),
            "steps.loss": lambda a, b: math.isclose(a[0], LN2, abs_tol=1e-6) and a[0] != b[0],
        },
        LATER,
        DPO,
    ),
)

OTHERS = (
    Case(
        "rl",
        "ipo",
        # The square of 1 / (2 beta): with beta 0.1 it is 25.
        {"steps.loss": first(LN2, 25)},
        LATER,
        DPO,
    ),
    Case(
        "orpo_alpha",
        0.5,
        {"steps.loss": lambda a, b: b[0] > a[0]},
        LATER,
        ORPO,
    ),
    Case("simpo_gamma", 1.5, {"steps.loss": lambda a, b: b[0] > a[0]}, LATER, SIMPO),
    Case(
        "cpo_loss_type",
        "hinge",
        {"steps.loss": differs},
        LATER,
        SIMPO,
    ),
    Case("cpo_alpha", 0.0, {"steps.loss": lambda a, b: b[0] < a[0]}, LATER, SIMPO),
)

KTO_KEYS = (
    Case(
        "kto_loss_type",
        "apo_zero_unpaired",
        {"steps.loss": lambda a, b: a[0] == b[0] and a[1] != b[1]},
        LATER,
        KTO,
    ),
    Case("kto_desirable_weight", 2.0, {"steps.loss": lambda a, b: a[0] < b[0]}, LATER, KTO),
    Case("kto_undesirable_weight", 0.0, {"steps.loss": lambda a, b: a[0] > b[0]}, LATER, KTO),
)


REFERENCES = (
    Case(
        "precompute_ref_log_probs",
        True,
        {"reference": Became("FrozenCopy", "itself")},
        given=DPO | FULL,
    ),
    Case(
        "rl_adapter_ref_model",
        True,
        {"reference": Became("adapter_off", "FrozenCopy")},
        given=DPO,
    ),
)


def inline(of: Mapping[str, Any], **kind: str) -> dict[str, Any]:
    """A method's own rows, read by a mapping of fields."""
    return {**of, "datasets": [{**of["datasets"][0], "type": kind}]}


FIELDS = (
    Case(
        "datasets[].type.field_prompt",
        "question",
        {"data.tokens": texts("Say sun: ", "Please say sun: ")},
        TEXTS,
        inline(DPO, field_prompt="prompt"),
    ),
    Case(
        "datasets[].type.field_chosen",
        "good",
        {"data.tokens": texts("sun", "SUN", whole=False)},
        ANSWERS | {"data.lint"},
        inline(DPO, field_chosen="chosen"),
    ),
    Case(
        "datasets[].type.field_rejected",
        "bad",
        {"data.tokens": texts("stars", "moonmoon", whole=False, at=1)},
        ANSWERS,
        inline(DPO, field_chosen="chosen"),
    ),
    Case(
        "datasets[].type.prompt_format",
        "Q: {prompt}",
        {"data.tokens": texts("Say sun: ", "Q: Say sun: ")},
        TEXTS,
        inline(DPO, field_prompt="prompt"),
    ),
    Case(
        "datasets[].type.chosen_format",
        "[{chosen}]",
        {"data.tokens": texts("sun", "[sun]", whole=False)},
        ANSWERS,
        inline(DPO, field_chosen="chosen"),
    ),
    Case(
        "datasets[].type.rejected_format",
        "[{rejected}]",
        {"data.tokens": texts("stars", "[stars]", whole=False, at=1)},
        ANSWERS,
        inline(DPO, field_chosen="chosen"),
    ),
    Case(
        "datasets[].type.field_completion",
        "said",
        {"data.tokens": texts("sun", "SUN", whole=False)},
        LEARNS,
        inline(KTO, field_prompt="prompt"),
    ),
    Case(
        "datasets[].type.completion_format",
        "[{completion}]",
        {"data.tokens": texts("sun", "[sun]", whole=False)},
        ANSWERS,
        inline(KTO, field_prompt="prompt"),
    ),
    Case(
        "datasets[].type.field_label",
        "is_good",
        {"data.verdicts": differs},
        LEARNS,
        inline(KTO, field_prompt="prompt"),
    ),
    Case(
        "datasets[].field_chosen",
        "good",
        {"data.tokens": texts("sun", "SUN", whole=False)},
        ANSWERS | {"data.lint"},
        TURNS,
    ),
    Case(
        "datasets[].field_rejected",
        "bad",
        {"data.tokens": texts("stars", "moonmoon", whole=False, at=1)},
        ANSWERS,
        TURNS,
    ),
)

CASES = (*DPO_KEYS, *OTHERS, *KTO_KEYS, *REFERENCES, *FIELDS)
