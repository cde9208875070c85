"""Rules for preference training, reward models and reinforcement learning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tunesmith.config.checks.asked import Asked
from tunesmith.config.checks.rule import PlainRule, Rule, conflict, missing, out_of_range
from tunesmith.config.objective import MARGIN_LOSSES, SORTED_LOSSES
from tunesmith.config.schema import RunConfig
from tunesmith.errors import REMOVE, Problem

_GROUPED = ("grpo", "gdpo", "ebft")


def groups_are_not_packed(asked: Asked) -> Iterator[Problem]:
    """Packing puts prepared documents into rows; groups are written while training."""
    if asked.method in _GROUPED and asked.get("sample_packing") is True:
        yield conflict(
            "sample_packing",
            f"`rl: {asked.method}` batches groups, which are not packed",
            {"sample_packing": False},
        )


def every_loss_has_a_weight(config: RunConfig) -> Iterator[Problem]:
    """The losses of DPO are weighed one by one, and each is named once."""
    section = config.objective
    losses, weights = section.loss_types, section.loss_weights
    if section.method != "dpo":
        return
    if weights is not None and len(losses) != len(weights):
        yield conflict(
            "dpo_loss_weights",
            f"{len(weights)} weights for {len(losses)} of `dpo_loss_type`",
            {"dpo_loss_weights": REMOVE},
            "give each loss one weight, or take `dpo_loss_weights` out",
        )
    if len(set(losses)) < len(losses):
        once = list(dict.fromkeys(losses))
        edit: dict[str, Any] = {"dpo_loss_type": once, "dpo_loss_weights": REMOVE}
        fix = "name it once; `dpo_loss_weights`, taken out, would weigh it"
        yield conflict("dpo_loss_type", "names a loss twice", edit, fix)


def smoothing_fits_the_loss(config: RunConfig) -> Iterator[Problem]:
    """EXO needs a share of wrong labels, and robust DPO less than half of them."""
    section = config.objective
    if section.method != "dpo":
        return
    if "exo_pair" in section.loss_types and not section.label_smoothing:
        yield missing(
            "dpo_label_smoothing",
            "`dpo_loss_type: exo_pair` is infinite without it",
            {"dpo_label_smoothing": 0.001},
        )
    if "robust" in section.loss_types and section.label_smoothing >= 0.5:
        yield out_of_range(
            "dpo_label_smoothing",
            f"is {section.label_smoothing:g}: `dpo_loss_type: robust` needs less than half",
            {"dpo_label_smoothing": 0.1},
        )


def divergences_define_the_reward(config: RunConfig) -> Iterator[Problem]:
    """A divergence stands for the difference of two rewards; other losses are of log ratios."""
    section = config.objective
    others = [name for name in section.loss_types if name not in MARGIN_LOSSES]
    if section.method == "dpo" and section.divergence != "reverse_kl" and others:
        yield conflict(
            "dpo_divergence",
            f"`dpo_loss_type: {others[0]}` is defined for `reverse_kl` alone",
            {"dpo_divergence": REMOVE},
        )


def weights_are_of_pairs(config: RunConfig) -> Iterator[Problem]:
    """WPO weighs pairs: losses that pair answers anew, or count tokens, have none to weigh."""
    section = config.objective
    others = [name for name in section.loss_types if name in {*SORTED_LOSSES, "sft"}]
    if section.method == "dpo" and section.use_weighting and others:
        yield conflict(
            "dpo_use_weighting",
            f"weighs pairs, and `dpo_loss_type: {others[0]}` is no sum over them",
            {"dpo_use_weighting": REMOVE},
        )


def groups_are_whole(asked: Asked) -> Iterator[Problem]:
    """Answers are compared within a group: it has several, and a batch holds whole groups."""
    size = asked.number("trl.num_generations")
    if asked.method not in ("grpo", "gdpo") or size is None:
        return
    if size < 2:
        yield out_of_range(
            "trl.num_generations",
            f"is {size}: an answer is compared with the others to the same prompt",
            {"trl.num_generations": 2},
            "use `trl.num_generations: 2` or more",
        )
        return
    batch = asked.number("trl.generation_batch_size") or _answers_a_step(asked)
    if batch and batch % size:
        whole = int(batch - batch % size or size)
        yield conflict(
            "trl.generation_batch_size",
            f"{int(batch)} answers are no whole number of groups of {int(size)}",
            {"trl.generation_batch_size": whole},
        )


def _answers_a_step(asked: Asked) -> float | None:
    micro, steps = asked.number("micro_batch_size"), asked.number("gradient_accumulation_steps")
    return micro * (steps or 1) if micro else None


def rewards_are_summed_once(asked: Asked) -> Iterator[Problem]:
    """GDPO is normalising each reward before they are summed."""
    key = "trl.multi_objective_aggregation"
    if asked.method == "gdpo" and asked.text(key) == "sum_then_normalize":
        yield conflict(key, "`rl: gdpo` is the other order", {key: "normalize_then_sum"})


def energy_has_settings(asked: Asked) -> Iterator[Problem]:
    """Energy-based fine-tuning is told how to lay out its answers."""
    if asked.method == "ebft" and not asked.block("ebft"):
        yield missing("ebft.mode", "`rl: ebft` needs it", {"ebft.mode": "structured"})


def strides_recompute_plainly(asked: Asked) -> Iterator[Problem]:
    """Strided answers have a mask of their own, which neither a compiled model recomputes nor
    offloading carries.
    """
    strided = asked.method == "ebft" and asked.text("ebft.mode") == "strided"
    if not strided:
        return
    if asked.get("torch_compile") is True and asked.on("gradient_checkpointing"):
        yield conflict(
            "torch_compile",
            "with `gradient_checkpointing`, the mask of `ebft.mode: strided` cannot be recomputed",
            {"torch_compile": REMOVE},
            "take `torch_compile` out: its attention is compiled by itself",
        )
    if asked.on("activation_offloading") and asked.get("attn_implementation") == "flex_attention":
        yield conflict(
            "activation_offloading",
            "cannot carry the mask of `ebft.mode: strided`",
            {"activation_offloading": REMOVE},
        )


def one_kind_of_reward(asked: Asked) -> Iterator[Problem]:
    """A reward for the whole answer, or for each of its steps."""
    if asked.on("reward_model") and asked.on("process_reward_model"):
        yield conflict(
            "process_reward_model",
            "`reward_model` trains a reward for whole answers",
            {"process_reward_model": REMOVE},
            "keep one: take `process_reward_model` out, or `reward_model`",
        )


RULES: tuple[Rule | PlainRule, ...] = (
    PlainRule(("rl", "sample_packing"), groups_are_not_packed),
    Rule(("rl", "dpo_loss_type", "dpo_loss_weights"), every_loss_has_a_weight),
    Rule(("rl", "dpo_loss_type", "dpo_label_smoothing"), smoothing_fits_the_loss),
    Rule(("rl", "dpo_loss_type", "dpo_divergence"), divergences_define_the_reward),
    Rule(("rl", "dpo_loss_type", "dpo_use_weighting"), weights_are_of_pairs),
    PlainRule(("rl", "trl", "micro_batch_size", "gradient_accumulation_steps"), groups_are_whole),
    PlainRule(("rl", "trl"), rewards_are_summed_once),
    PlainRule(("rl", "ebft"), energy_has_settings),
    PlainRule(
        (
            *("rl", "ebft", "torch_compile", "gradient_checkpointing"),
            *("activation_offloading", "attn_implementation"),
        ),
        strides_recompute_plainly,
    ),
    PlainRule(("reward_model", "process_reward_model"), one_kind_of_reward),
)
