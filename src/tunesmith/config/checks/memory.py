"""Rules for what is traded for memory: recompute, offloading, fp8."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith.config.checks.asked import Asked
from tunesmith.config.checks.rule import PlainRule, conflict, missing
from tunesmith.errors import REMOVE, Problem

# What PyTorch calls its products of matrices; a part of such a name chooses it too.
_PRODUCTS = ("aten::mm", "aten::addmm", "aten::matmul", "aten::bmm")


def offloading_has_checkpoints(asked: Asked) -> Iterator[Problem]:
    """What is offloaded is what recomputing starts from."""
    if asked.on("activation_offloading") and not asked.on("gradient_checkpointing"):
        yield missing(
            "gradient_checkpointing",
            "`activation_offloading` moves what recomputing starts from",
            {"gradient_checkpointing": True},
        )


def selection_has_checkpoints(asked: Asked) -> Iterator[Problem]:
    """What is kept from recomputing is chosen where something is recomputed, by one means."""
    if not asked.on("selective_checkpointing"):
        return
    if not asked.on("gradient_checkpointing"):
        yield missing(
            "gradient_checkpointing",
            "`selective_checkpointing` chooses what is not recomputed",
            {"gradient_checkpointing": True},
        )
    if asked.get("activation_offloading") not in (None, False, "hidden_states"):
        yield conflict(
            "activation_offloading",
            "only the hidden states can be offloaded beside `selective_checkpointing`",
            {"activation_offloading": "hidden_states"},
        )


def kept_products_have_no_adapter(asked: Asked) -> Iterator[Problem]:
    """An adapter adds to the base's products in place: kept ones would be changed."""
    saved = [str(name) for name in asked.items("selective_checkpointing.save")]
    products = [name for name in saved if any(name in product for product in _PRODUCTS)]
    if asked.adapter and products:
        yield conflict(
            "selective_checkpointing.save",
            f"{', '.join(f'`{name}`' for name in products)}: an adapter adds to these in place",
            {"selective_checkpointing.save": ["attention"]},
        )


def one_memory_limit(asked: Asked) -> Iterator[Problem]:
    """How much of a device is used is said once."""
    if asked.on("max_memory") and asked.on("gpu_memory_limit"):
        yield conflict(
            "gpu_memory_limit",
            "`max_memory` says it already, for each device",
            {"gpu_memory_limit": REMOVE},
        )


def fp8_is_gathered_by_fsdp2(asked: Asked) -> Iterator[Problem]:
    """Weights are gathered in fp8 by FSDP2 alone."""
    key = "fp8_enable_fsdp_float8_all_gather"
    if asked.on(key) and not asked.fsdp2:
        yield conflict(key, "only FSDP2 gathers weights in fp8", {key: REMOVE})


RULES: tuple[PlainRule, ...] = (
    PlainRule(("activation_offloading", "gradient_checkpointing"), offloading_has_checkpoints),
    PlainRule(
        ("selective_checkpointing", "activation_offloading", "gradient_checkpointing"),
        selection_has_checkpoints,
    ),
    PlainRule(("selective_checkpointing", "adapter"), kept_products_have_no_adapter),
    PlainRule(("max_memory", "gpu_memory_limit"), one_memory_limit),
    PlainRule(("fp8_enable_fsdp_float8_all_gather", "fsdp_config"), fp8_is_gathered_by_fsdp2),
)
