"""Rules for further kinds of adapters and of quantised bases, and for training chosen parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tunesmith.config.checks.asked import Asked
from tunesmith.config.checks.rule import PlainRule, conflict, missing
from tunesmith.errors import REMOVE, Edit, Problem

_USUAL_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]


def _without_bits(asked: Asked) -> Edit:
    """No bitsandbytes base: `qlora` would need one, so it becomes `lora`."""
    edit: dict[str, Any] = {
        key: REMOVE for key in ("load_in_4bit", "load_in_8bit") if asked.on(key)
    }
    return edit | ({"adapter": "lora"} if asked.adapter == "qlora" else {})


def parameters_have_no_dropout(asked: Asked) -> Iterator[Problem]:
    """An adapter of a raw parameter has no input that could be dropped."""
    if asked.on("lora_target_parameters") and asked.on("lora_dropout"):
        yield conflict(
            "lora_dropout", "adapters of raw parameters have no dropout", {"lora_dropout": 0}
        )


def one_rate_a_group(asked: Asked) -> Iterator[Problem]:
    """LoRA+ makes the groups of parameters, or the user does."""
    if asked.on("loraplus_lr_ratio") and asked.on("lr_groups"):
        yield conflict(
            "lr_groups", "`loraplus_lr_ratio` makes the groups already", {"lr_groups": REMOVE}
        )


def layers_are_chosen_once(asked: Asked) -> Iterator[Problem]:
    """Layers are chosen for the adapter, or parameters for training without one."""
    if asked.on("peft_layers_to_transform") and asked.on("unfrozen_parameters"):
        yield conflict(
            "unfrozen_parameters",
            "`peft_layers_to_transform` chooses what trains already",
            {"unfrozen_parameters": REMOVE},
        )


def patterns_have_layers(asked: Asked) -> Iterator[Problem]:
    """A pattern of layers says where the numbers of `peft_layers_to_transform` stand."""
    if asked.on("peft_layers_pattern") and not asked.on("peft_layers_to_transform"):
        yield missing(
            "peft_layers_to_transform",
            "`peft_layers_pattern` says where layers stand, not which ones",
            {"peft_layers_pattern": REMOVE},
            "list the layers, or take `peft_layers_pattern` out",
        )


def one_bit_is_whole(asked: Asked) -> Iterator[Problem]:
    """One-bit layers train whole."""
    if asked.on("use_onebitllms") and asked.adapter:
        yield conflict("use_onebitllms", "one-bit layers take no adapter", {"adapter": REMOVE})


def gptq_is_its_own_format(asked: Asked) -> Iterator[Problem]:
    """A GPTQ base is stored in its own bits."""
    if asked.on("gptq") and (asked.bits or asked.adapter == "qlora"):
        key = asked.bits or "adapter"
        yield conflict(key, "`gptq` says how the base is stored already", _without_bits(asked))


def one_quantisation(asked: Asked) -> Iterator[Problem]:
    """A base that comes quantised is not quantised again."""
    if asked.on("model_quantization_config") and asked.bits:
        yield conflict(
            asked.bits,
            "`model_quantization_config` says how the base is stored already",
            _without_bits(asked),
        )


def fake_quantisation_is_whole(asked: Asked) -> Iterator[Problem]:
    """Quantisation-aware training rounds weights that train."""
    if not asked.on("qat"):
        return
    if asked.bits:
        yield conflict("qat", f"a base under `{asked.bits}` is quantised already", {"qat": REMOVE})
    elif asked.adapter:
        yield conflict(
            "qat", "it rounds weights that train, and under an adapter none do", {"qat": REMOVE}
        )


def experts_are_quantised_for_an_adapter(asked: Asked) -> Iterator[Problem]:
    """Quantised experts cannot train: an adapter does, on named layers, over a quantised base."""
    if not asked.on("quantize_moe_experts"):
        return
    if asked.adapter not in ("lora", "qlora") or not asked.bits:
        yield missing(
            "quantize_moe_experts",
            "needs an adapter over a base in 4 or 8 bits",
            {"quantize_moe_experts": REMOVE},
            "take `quantize_moe_experts` out, or use `adapter: qlora` and `load_in_4bit: true`",
        )
    elif asked.on("lora_target_linear"):
        named = asked.on("lora_target_modules") or asked.on("lora_target_parameters")
        edit: dict[str, Any] = {} if named else {"lora_target_modules": _USUAL_TARGETS}
        yield conflict(
            "lora_target_linear",
            "`quantize_moe_experts` leaves no linear layers in the experts to find",
            {**edit, "lora_target_linear": REMOVE},
        )


def mended_tokens_train(asked: Asked) -> Iterator[Problem]:
    """Beside an adapter, rows of the embedding train only where they are listed."""
    mended, listed = asked.get("fix_untrained_tokens"), asked.get("peft_trainable_token_indices")
    ids = mended if isinstance(mended, list) else [mended]
    if not asked.adapter or not mended or not isinstance(listed, list):
        return
    left = [number for number in ids if number not in listed]
    if left:
        yield conflict(
            "peft_trainable_token_indices",
            f"lacks {', '.join(map(str, left))} of `fix_untrained_tokens`: they would stay frozen",
            {"peft_trainable_token_indices": [*listed, *left]},
        )


def restarts_have_an_adapter(asked: Asked) -> Iterator[Problem]:
    """ReLoRA folds an adapter into the base at each restart of the schedule."""
    if not asked.on("relora"):
        return
    if not asked.adapter:
        yield missing("relora", "there is no adapter that could be folded in", {"relora": REMOVE})
    if not asked.on("jagged_restart_steps"):
        yield missing(
            "jagged_restart_steps",
            "`relora` needs it: how many steps lie between restarts?",
            {"jagged_restart_steps": 500},
        )
    if asked.text("lr_scheduler") == "one_cycle":
        yield conflict(
            "lr_scheduler", "`one_cycle` cannot restart for `relora`", {"lr_scheduler": "cosine"}
        )
    if asked.fsdp or asked.on("deepspeed"):
        yield conflict("relora", "sharded weights cannot be folded in", {"relora": REMOVE})


def merge_aware_is_lora(asked: Asked) -> Iterator[Problem]:
    """Training for a later merge into NVFP4 weights is done for plain LoRA over SonicMoE."""
    if not asked.on("nvfp4_merge_aware"):
        return
    if asked.adapter != "lora":
        yield conflict("nvfp4_merge_aware", "needs `adapter: lora`", {"nvfp4_merge_aware": REMOVE})
    elif not asked.on("use_sonicmoe"):
        yield missing("use_sonicmoe", "`nvfp4_merge_aware` needs it", {"use_sonicmoe": True})


def galore_is_whole(asked: Asked) -> Iterator[Problem]:
    """GaLore projects the gradients of whole matrices."""
    if asked.text("optimizer") == "q_galore_adamw8bit" and asked.adapter:
        yield conflict(
            "optimizer",
            "GaLore projects whole matrices, and an adapter has none",
            {"optimizer": "adamw_torch_fused"},
        )


_BASE = ("adapter", "load_in_4bit", "load_in_8bit")

RULES: tuple[PlainRule, ...] = (
    PlainRule(("lora_target_parameters", "lora_dropout"), parameters_have_no_dropout),
    PlainRule(("loraplus_lr_ratio", "lr_groups"), one_rate_a_group),
    PlainRule(("peft_layers_to_transform", "unfrozen_parameters"), layers_are_chosen_once),
    PlainRule(("peft_layers_pattern", "peft_layers_to_transform"), patterns_have_layers),
    PlainRule(("use_onebitllms", "adapter"), one_bit_is_whole),
    PlainRule(("gptq", *_BASE), gptq_is_its_own_format),
    PlainRule(("model_quantization_config", *_BASE), one_quantisation),
    PlainRule(("qat", *_BASE), fake_quantisation_is_whole),
    PlainRule(
        ("quantize_moe_experts", "lora_target_linear", *_BASE),
        experts_are_quantised_for_an_adapter,
    ),
    PlainRule(
        ("fix_untrained_tokens", "peft_trainable_token_indices", "adapter"), mended_tokens_train
    ),
    PlainRule(
        ("relora", "jagged_restart_steps", "lr_scheduler", "adapter", "fsdp", "deepspeed"),
        restarts_have_an_adapter,
    ),
    PlainRule(("nvfp4_merge_aware", "use_sonicmoe", "adapter"), merge_aware_is_lora),
    PlainRule(("optimizer", "adapter"), galore_is_whole),
)
