"""Rules for preference training, reward models and reinforcement learning."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith.config.checks.asked import Asked
from tunesmith.config.checks.rule import PlainRule, conflict, missing, out_of_range
from tunesmith.errors import REMOVE, Problem

_GROUPED = ("grpo", "gdpo")


def pairs_are_not_packed(asked: Asked) -> Iterator[Problem]:
    """Packing puts single documents into rows; pairs and groups are batched as they are."""
    if asked.method and asked.get("sample_packing") is True:
        yield conflict(
            "sample_packing",
            f"`rl: {asked.method}` batches pairs or groups, which are not packed",
            {"sample_packing": False},
        )


def losses_belong_to_dpo(asked: Asked) -> Iterator[Problem]:
    """The losses of DPO, and one weight for each."""
    keys = [key for key in ("dpo_loss_type", "dpo_loss_weights") if asked.on(key)]
    if asked.method != "dpo":
        for key in keys:
            yield conflict(key, "is only read with `rl: dpo`", {key: REMOVE})
        return
    losses, weights = asked.items("dpo_loss_type"), asked.items("dpo_loss_weights")
    if weights and len(losses) != len(weights):
        yield conflict(
            "dpo_loss_weights",
            f"{len(weights)} weights for {len(losses)} of `dpo_loss_type`",
            {"dpo_loss_weights": REMOVE},
            "give each loss one weight, or take `dpo_loss_weights` out",
        )


def groups_are_whole(asked: Asked) -> Iterator[Problem]:
    """Answers are compared within a group: it has several, and a batch holds whole groups."""
    size = asked.number("trl.num_generations")
    if asked.method not in _GROUPED or size is None:
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


RULES: tuple[PlainRule, ...] = (
    PlainRule(("rl", "sample_packing"), pairs_are_not_packed),
    PlainRule(("rl", "dpo_loss_type", "dpo_loss_weights"), losses_belong_to_dpo),
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
