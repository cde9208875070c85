"""Rules for weights that are spread over several devices."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith.config.checks.asked import Asked
from tunesmith.config.checks.rule import PlainRule, conflict, missing
from tunesmith.errors import REMOVE, Problem

# bitsandbytes keeps 8-bit state of plain tensors; torchao's also does so of sharded ones.
_BNB_8BIT = ("adamw_8bit", "adamw_bnb_8bit")
_SHARDED_8BIT = "adamw_torch_8bit"


def one_way_to_shard(asked: Asked) -> Iterator[Problem]:
    """FSDP or DeepSpeed."""
    if asked.fsdp and asked.on("deepspeed"):
        yield conflict(
            "deepspeed",
            f"`{asked.sharding_key}` says how weights are spread already",
            {"deepspeed": REMOVE},
            f"take `deepspeed` out, or `{asked.sharding_key}`",
        )


def sharded_weights_have_sharded_state(asked: Asked) -> Iterator[Problem]:
    """The 8-bit states of bitsandbytes know no sharded tensors."""
    name = asked.text("optimizer")
    split = (asked.number("tensor_parallel_size") or 1) > 1
    if asked.fsdp2 and name in _BNB_8BIT:
        why = "cannot keep state of weights that FSDP2 spreads"
    elif split and name.removeprefix("paged_") in _BNB_8BIT:
        why = "cannot keep state of weights that `tensor_parallel_size` splits"
    else:
        return
    yield conflict("optimizer", f"`{name}` {why}", {"optimizer": _SHARDED_8BIT})


def offloaded_weights_have_plain_state(asked: Asked) -> Iterator[Problem]:
    """8-bit states need their weights on a GPU, also when FSDP's first version offloads them."""
    key = asked.fsdp_key("offload_params")
    name = asked.text("optimizer")
    if asked.fsdp and not asked.fsdp2 and asked.get(key) is True and "8bit" in name:
        yield conflict(key, f"`optimizer: {name}` needs the weights on a GPU", {key: False})


def quantised_weights_load_everywhere(asked: Asked) -> Iterator[Problem]:
    """FSDP2 sends weights from one rank to the others, which cannot be done with quantised ones."""
    key = asked.fsdp_key("cpu_ram_efficient_loading")
    if asked.get(key) is not True:
        return
    if asked.fsdp2 and asked.bits:
        why = f"weights under `{asked.bits}` cannot be sent from one rank to the others"
    elif asked.text("model_quantization_config") == "Mxfp4Config":
        why = "MXFP4 weights cannot be sent from one rank to the others"
    else:
        return
    yield conflict(key, why, {key: False})


def unpinned_memory_is_offloaded(asked: Asked) -> Iterator[Problem]:
    """Memory of the host is pinned, or not, where FSDP2 offloads to it."""
    key = asked.fsdp_key("cpu_offload_pin_memory")
    offloads = asked.get(asked.fsdp_key("offload_params")) is True
    if asked.get(key) is False and not (asked.fsdp2 and offloads):
        yield conflict(key, "means nothing where FSDP2 does not offload", {key: REMOVE})


def wrapping_by_size_has_one(asked: Asked) -> Iterator[Problem]:
    """Layers are wrapped by their size only where it is known which."""
    policy = asked.fsdp_key("auto_wrap_policy")
    size = asked.fsdp_key("min_num_params")
    if asked.text(policy) == "SIZE_BASED_WRAP" and not asked.on(size):
        yield missing(size, "`SIZE_BASED_WRAP` needs it", {size: 100_000_000})


def norms_are_split_off_by_fsdp2(asked: Asked) -> Iterator[Problem]:
    """Norms in fp32 are units of their own, which only FSDP2 has."""
    if asked.on("fp32_norms") and not asked.fsdp2:
        yield conflict("fp32_norms", "needs FSDP2", {"fp32_norms": REMOVE})


def compiled_by_deepspeed(asked: Asked) -> Iterator[Problem]:
    """DeepCompile is a part of DeepSpeed."""
    if asked.on("deepcompile") and not asked.on("deepspeed"):
        yield missing("deepspeed", "`deepcompile` is a part of it", {"deepcompile": REMOVE})


_FSDP = ("fsdp", "fsdp_config", "fsdp_version")

RULES: tuple[PlainRule, ...] = (
    PlainRule((*_FSDP, "deepspeed"), one_way_to_shard),
    PlainRule((*_FSDP, "optimizer", "tensor_parallel_size"), sharded_weights_have_sharded_state),
    PlainRule((*_FSDP, "optimizer"), offloaded_weights_have_plain_state),
    PlainRule(
        (*_FSDP, "load_in_4bit", "load_in_8bit", "model_quantization_config"),
        quantised_weights_load_everywhere,
    ),
    PlainRule(_FSDP, unpinned_memory_is_offloaded),
    PlainRule(_FSDP, wrapping_by_size_has_one),
    PlainRule((*_FSDP, "fp32_norms"), norms_are_split_off_by_fsdp2),
    PlainRule(("deepcompile", "deepspeed"), compiled_by_deepspeed),
)
