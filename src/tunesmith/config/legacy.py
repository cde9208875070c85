"""One table of old and foreign keys: renamed, transformed, ignored aloud, or refused with a reason.

It is applied before the keys are looked up. What it changes or leaves out it says, once a key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tunesmith.config.draft import Draft
from tunesmith.config.legacy_data import SINCE, SINGULAR, upgrade_data
from tunesmith.config.legacy_plugins import take_plugins
from tunesmith.config.legacy_stream import STREAM_KEYS, upgrade_stream
from tunesmith.errors import REMOVE

# Old key -> the key that means the same.
_RENAMED: Mapping[str, str] = {
    "evaluation_strategy": "eval_strategy",
    "dataset_processes": "dataset_num_proc",
    "adam_eps": "adam_epsilon",
    "noisy_embedding_alpha": "neftune_noise_alpha",
    "dpo_beta": "rl_beta",
    "sequence_parallel_degree": "context_parallel_size",
    "eval_table_max_new_tokens": "eval_max_new_tokens",
    "load_4bit": "load_in_4bit",
    "load_8bit": "load_in_8bit",
    "model_revision": "revision_of_model",
    "pretrain_multipack_buffer_size": "streaming_multipack_buffer_size",
    "type_of_model": "model_type",
    "model_config": "overrides_of_model_config",
}

# The current spelling of the same key: said by nobody, since nothing is old about it.
_QUIET = {"model_revision", "type_of_model", "model_config"}

_FLAT = "rows of a batch always lie end to end, without padding"
_LOSS = "no logits are stored here, whatever the kernel"
_TRAINER = "it steers another trainer's loader or launcher"
_MEMORY = "memory is kept by other means, the result is the same"
_NOBODY = "nothing hangs on it"
_MERGING = "`tunesmith merge` merges, after training"
_COUNTED = "tokens a second are always counted"
_LOGIN = "the login of this machine is used (`HF_TOKEN`, or `hf auth login`)"
_TOKENIZED = "the tokenizer's own files say how it splits text"
_ADAPTER_FLOATS = "adapters are always kept in fp32"
_TEMPLATE_FILE = "the chat template is written as transformers writes it"
_SAME = "the result is the same, only the speed may differ"
_DERIVED = "it is worked out here"
_WHOLE = "all weights train wherever `adapter` is not set"
_SINGLE = "it means nothing on one device"
_NEVER_REENTRANT = "recomputing is never reentrant here, which trains the same"
_NOWHERE = "no template reads it, in axolotl neither: give the rows a system turn"

# Reason -> keys that are left out with that reason, wherever they ask for anything.
_IGNORED: Mapping[str, str] = {
    _LOSS: """
        cut_cross_entropy liger_cross_entropy liger_fused_linear_cross_entropy
        flash_attn_cross_entropy flash_attn_cross_entropy_loss chunked_cross_entropy
        chunked_cross_entropy_num_chunks unsloth_cross_entropy_loss""",
    _SAME: """
        lora_mlp_kernel lora_qkv_kernel lora_o_kernel lora_embedding_kernel liger_rope
        liger_rms_norm liger_rms_norm_gated liger_layer_norm liger_swiglu liger_glu_activation
        unsloth_lora_mlp unsloth_lora_qkv unsloth_lora_o unsloth_rms_norm unsloth_rope
        flash_attn_fuse_mlp fused_attn_kernel use_kernels torch_compile_backend
        torch_compile_mode torch_compile_options flex_attn_compile_kwargs flash_optimum
        sdpa_varlen multipack_real_batches""",
    _TRAINER: """
        dataloader_pin_memory dataloader_prefetch_factor accelerator_config remove_unused_columns
        dataset_keep_in_memory num_dataset_shards_to_save experimental_skip_move_to_device
        sample_packing_mp_start_method""",
    _MEMORY: """
        low_cpu_mem_usage lora_on_cpu torch_empty_cache_steps gc_collect_steps gc_steps""",
    _NOBODY: """
        torchdistx_path lr_div_factor preprocess_iterable gptq_groupsize gptq_model_v1
        base_model_ignore_patterns debug strict inference""",
    _MERGING: "merge_lora merge_method",
    _COUNTED: "include_tkps include_tokens_per_second",
    _LOGIN: "hf_use_auth_token",
    _TOKENIZED: "tokenizer_legacy",
    _ADAPTER_FLOATS: "peft_autocast_adapter_dtype",
    _TEMPLATE_FILE: "tokenizer_save_jinja_files",
    _WHOLE: "full_finetune",
    _DERIVED: """
        sample_packing_seq_len_multiplier sample_packing_eff_est
        total_num_tokens total_supervised_tokens is_falcon_derived_model is_llama_derived_model
        is_mistral_derived_model is_qwen_derived_model is_preprocess axolotl_config_path device
        device_map""",
    _NEVER_REENTRANT: "gradient_checkpointing_kwargs",
    _NOWHERE: "default_system_message",
    _FLAT: "batch_flattening",
    _SINGLE: """
        local_rank world_size ddp ddp_timeout ddp_bucket_cap_mb ddp_broadcast_buffers
        ddp_find_unused_parameters""",
}

# What asks for nothing beside null and empty, and is left out in silence: false and zero where
# nothing stands here, else this value alone.
_USUAL: Mapping[str, Any] = {
    "dataloader_pin_memory": None,
    "peft_autocast_adapter_dtype": True,
    "tokenizer_legacy": None,
    "include_tkps": True,
    "merge_method": "memory_efficient",
    "tokenizer_save_jinja_files": True,
    "experimental_skip_move_to_device": True,
    "device_map": "auto",
}

# Key -> (why it is refused, what to write instead).
REFUSED: Mapping[str, tuple[str, str]] = {
    "max_packed_sequence_len": (
        "was removed",
        "use `sequence_len` with `sample_packing: true`",
    ),
    "rope_scaling": (
        "was removed as a key of its own",
        "write it under `overrides_of_model_config`",
    ),
    "s2_attention": ("shifted sparse attention was removed", "take it out"),
    "flash_attn_rms_norm": ("was removed", "take it out"),
    "landmark_attention": ("landmark attention was removed", "take it out"),
    "dpo_use_logits_to_keep": ("was removed", "take it out"),
    "dpo_generate_during_eval": ("was removed", "take it out"),
    "dpo_norm_loss": ("was removed", "take it out"),
    "rpo_alpha": ("was removed", "use several `dpo_loss_type` with `dpo_loss_weights`"),
    "eta_min": (
        "was never read by axolotl, the rate fell to 0",
        "use `cosine_min_lr_ratio`, a share of `learning_rate`",
    ),
}

# Switch -> the attention function that it asks for; None leaves the choice to the machine.
ATTENTION_SWITCHES: Mapping[str, str | None] = {
    "flash_attention": None,
    "flex_attention": None,
    "xformers_attention": None,
    "sdp_attention": "sdpa",
    "eager_attention": "eager",
}

# Weights in one type of number -> the key that asks for the same products, and its value. Weights
# in float16 would lose small updates: they stay in fp32, and the loss is scaled.
_PURE: Sequence[tuple[str, str, bool]] = (
    ("bfloat16", "bf16", True),
    ("float16", "fp16", True),
    ("float32", "bf16", False),
)

_EXACT_ATTENTIONS = ("flash_attention_3", "flash_attention_4", "flex_attention", "xformers")

_BNB_KEYS = (
    "bnb_4bit_quant_type",
    "bnb_4bit_use_double_quant",
    "bnb_4bit_compute_dtype",
    "bnb_4bit_quant_storage",
)


def legacy_keys() -> frozenset[str]:
    """Every top-level key that this file answers for; a singular is no name to suggest."""
    return frozenset({*other_spellings(), *left_out(), *REFUSED, "plugins"} - set(SINGULAR))


def other_spellings() -> dict[str, tuple[str, str]]:
    """Old key -> (how it is read, the key that stands for it or "")."""
    found = {old: (f"`{new}`", new) for old, new in _RENAMED.items()}
    found |= {old: (f"`{old}s`", f"{old}s") for old in SINGULAR}
    for name, attention in ATTENTION_SWITCHES.items():
        written = f"`attn_implementation: {attention}`" if attention else "the machine decides"
        found[name] = (written, "attn_implementation")
    found |= STREAM_KEYS
    found |= {n: (f"`bnb_config_kwargs: {{{n}: ...}}`", "bnb_config_kwargs") for n in _BNB_KEYS}
    return found | {old: (f"`{new}: {str(value).lower()}`", new) for old, new, value in _PURE}


def left_out() -> dict[str, str]:
    """Key that is left out -> why."""
    found = {name: why for why, names in _IGNORED.items() for name in names.split()}
    found["save_safetensors"] = "weights are always safetensors (`false` is refused)"
    found["pretrain_multipack_attn"] = "packed documents never see each other (`false` is refused)"
    found["tokenizer_use_fast"] = "tokenizers are always the fast ones"
    return found


def upgrade(draft: Draft) -> None:
    """Turn old keys into today's, in place; every change is a notice, every refusal a problem."""
    for name in legacy_keys() - _RENAMED.keys():
        if (name,) in draft.old_booleans:
            draft.values[name] = draft.old_booleans[(name,)]
    draft.drop(("$schema",))  # for editors
    _rename(draft)
    _ignore(draft)
    _refuse(draft)
    for transform in _TRANSFORMS:
        transform(draft)
    upgrade_stream(draft)
    upgrade_data(draft)


def _rename(draft: Draft) -> None:
    for old, new in _RENAMED.items():
        if old not in draft.values:
            continue
        value = draft.values[old]
        if draft.values.get(new) not in (None, value) and value is not None:
            message = f"means the same as `{new}`"
            draft.problem("conflict", (old,), message, f"keep `{new}`, or this", {old: REMOVE})
            draft.drop((old,))
        elif value is None:
            draft.drop((old,))
        elif old in _QUIET:
            draft.rename((old,), new, value)
        else:
            draft.replace((old,), {(new,): value}, f"{old} is called `{new}` now ({SINCE})")


def _ignore(draft: Draft) -> None:
    for reason, names in _IGNORED.items():
        for name in names.split():
            if name not in draft.values:
                continue
            value = draft.values[name]
            if _asks(name, value):
                adapter = draft.values.get("adapter")
                if reason == _WHOLE and adapter:
                    reason = f"`adapter: {adapter}` trains the adapter alone"
                draft.replace((name,), {}, f"{name} is left out: {reason}")
            else:
                draft.drop((name,))


def _asks(name: str, value: Any) -> bool:
    if value in (None, "", [], {}):
        return False
    return bool(value != _USUAL[name]) if name in _USUAL else bool(value)


def _refuse(draft: Draft) -> None:
    for name, (why, fix) in REFUSED.items():
        value = draft.drop((name,))
        if value:
            edit = {name: REMOVE} | _successor(draft, name, value)
            draft.problem("refused", (name,), why, fix, edit)


def _successor(draft: Draft, name: str, value: Any) -> dict[str, Any]:
    """The keys that stand for a refused one today, where its value says which."""
    rate = draft.values.get("learning_rate")
    numbers = isinstance(value, int | float) and isinstance(rate, int | float)
    if name == "eta_min" and numbers and 0 < value < rate:
        return {"cosine_min_lr_ratio": round(value / rate, 6)}
    if name == "max_packed_sequence_len" and type(value) is int:
        return {"sequence_len": value, "sample_packing": True}
    if name == "rope_scaling" and isinstance(value, dict):
        return {"overrides_of_model_config.rope_scaling": value}
    return {}


def _attention(draft: Draft) -> None:
    """The old attention switches, at most one, in the place of ``attn_implementation``."""
    asked = [name for name in ATTENTION_SWITCHES if draft.values.get(name)]
    for name in ATTENTION_SWITCHES.keys() - asked:
        draft.drop((name,))
    explicit = draft.values.get("attn_implementation")
    if len(asked) > 1 or (asked and explicit):
        for name in asked:
            draft.drop((name,))
        names = [*asked, *(["attn_implementation"] if explicit else [])]
        draft.problem(
            "conflict",
            (asked[0],),
            f"{' and '.join(f'`{name}`' for name in names)} each choose the attention function",
            "keep `attn_implementation`, or none of them: the machine decides then",
            dict.fromkeys(asked if explicit else asked[1:], REMOVE),
        )
        return
    for name in asked:
        wanted = ATTENTION_SWITCHES[name]
        if wanted is None:
            text = f"{name} is left out: the machine decides (`varlen` on a GPU)"
            draft.replace((name,), {}, text)
        else:
            text = f"{name} is called `attn_implementation: {wanted}` now ({SINCE})"
            draft.replace((name,), {("attn_implementation",): wanted}, text)


def _exact_attention(draft: Draft) -> None:
    """Attention functions that compute the same as ours: the machine decides instead."""
    name = draft.values.get("attn_implementation")
    if isinstance(name, str) and (name in _EXACT_ATTENTIONS or ("/" in name and "flash" in name)):
        draft.replace(
            ("attn_implementation",),
            {},
            f"attn_implementation: {name} is left out: the machine decides (`varlen` on a GPU)",
        )


def _shares_of_steps(draft: Draft) -> None:
    """``warmup_steps: 0.1``, which means a share."""
    value = draft.values.get("warmup_steps")
    if isinstance(value, float) and 0 < value < 1:
        draft.problem(
            "wrong-type",
            ("warmup_steps",),
            f"must be a whole number, not `{value}`",
            f"use `warmup_ratio: {value}`",
            {"warmup_steps": REMOVE, "warmup_ratio": value},
        )
        draft.drop(("warmup_steps",))
        draft.removed.add("warmup_steps")


def _resume_switch(draft: Draft) -> None:
    """``resume_from_checkpoint: true``: going on by itself is another key."""
    value = draft.values.get("resume_from_checkpoint")
    if isinstance(value, bool):
        draft.problem(
            "wrong-type",
            ("resume_from_checkpoint",),
            f"must be the folder of a checkpoint, not `{str(value).lower()}`",
            f"use `auto_resume_from_checkpoints: {str(value).lower()}`",
            {"resume_from_checkpoint": REMOVE, "auto_resume_from_checkpoints": value},
        )
        draft.drop(("resume_from_checkpoint",))
        draft.removed.add("resume_from_checkpoint")


def _remote_code(draft: Draft) -> None:
    """``trust_remote_code``, which stays to be read: a model that needs it is refused."""
    if draft.values.get("trust_remote_code") is True:
        text = "trust_remote_code is never obeyed: a model that needs code of its own is refused"
        draft.left_out(("trust_remote_code",), text)


def _named_tokens(draft: Draft) -> None:
    """``tokens`` as a mapping, which never set anything."""
    named = draft.values.get("tokens")
    if isinstance(named, dict):
        draft.drop(("tokens",))
        edit = {f"special_tokens.{name}": text for name, text in named.items()}
        draft.problem(
            "refused",
            ("tokens",),
            "is a list of further tokens; a mapping was never read",
            "write the mapping under `special_tokens`, in place of `tokens`",
            {"tokens": REMOVE, **edit},
        )


def _pure_precision(draft: Draft) -> None:
    """``bfloat16``, ``float16`` and ``float32``, which asked for weights without mixed precision:
    beside them ``bf16: false`` and ``fp16: false`` only said that it is not mixed.
    """
    for old, new, value in _PURE:
        if old not in draft.values:
            continue
        if not draft.values[old]:
            draft.drop((old,))
        elif draft.values.get(new) not in (None, False, value, "auto"):
            fix = f"keep `{new}`, or this"
            draft.problem("conflict", (old,), f"contradicts `{new}`", fix, {old: REMOVE})
            draft.drop((old,))
        else:
            text = f"{old} is read as `{new}: {str(value).lower()}` ({SINCE})"
            draft.replace((old,), {(new,): value}, text)


def _words_for_precision(draft: Draft) -> None:
    if draft.values.get("bf16") == "full":
        text = f"bf16: full is read as `bf16: true` ({SINCE})"
        draft.replace(("bf16",), {("bf16",): True}, text)


def _checkpointing(draft: Draft) -> None:
    """``gradient_checkpointing: offload``, whose second half does not exist yet."""
    value = draft.values.get("gradient_checkpointing")
    if value in ("offload", "offload_disk", "unsloth"):
        draft.problem(
            "not-built",
            ("gradient_checkpointing",),
            f"`{value}`: offloading of activations is not built yet",
            "use `gradient_checkpointing: true`",
            {"gradient_checkpointing": True},
        )
        draft.drop(("gradient_checkpointing",))
        draft.removed.add("gradient_checkpointing")


def _best_checkpoint(draft: Draft) -> None:
    if draft.values.get("save_strategy") == "best":
        draft.problem(
            "not-built",
            ("save_strategy",),
            "`best`: keeping the best checkpoint is not built yet",
            "use `save_strategy: epoch`, or `steps`",
            {"save_strategy": "epoch"},
        )
        draft.drop(("save_strategy",))
        draft.removed.add("save_strategy")


def _bitsandbytes(draft: Draft) -> None:
    """The arguments of BitsAndBytesConfig that stood alone, now in ``bnb_config_kwargs``."""
    for name in _BNB_KEYS:
        value = draft.values.get(name)
        block = draft.values.get("bnb_config_kwargs")
        if value is None or not isinstance(block, dict | None):
            draft.drop((name,))
            continue
        if block and block.get(name) not in (None, value):
            draft.problem(
                "conflict",
                (name,),
                "contradicts `bnb_config_kwargs`",
                "keep what stands there, or this",
                {name: REMOVE},
            )
            draft.drop((name,))
            continue
        text = f"{name} is read as `bnb_config_kwargs: {{{name}: ...}}` ({SINCE})"
        draft.replace((name,), {("bnb_config_kwargs", name): value}, text)


def _safetensors(draft: Draft) -> None:
    if draft.values.get("save_safetensors") is False:
        draft.problem(
            "refused",
            ("save_safetensors",),
            "weights are only written as safetensors: other files can run code when read",
            "take it out",
            {"save_safetensors": REMOVE},
        )
    draft.drop(("save_safetensors",))


def _fast_tokenizer(draft: Draft) -> None:
    if draft.values.get("tokenizer_use_fast") is False:
        text = "tokenizer_use_fast is left out: only fast tokenizers know where a token stands"
        draft.replace(("tokenizer_use_fast",), {}, text)
    draft.drop(("tokenizer_use_fast",))


def _optimizer_names(draft: Draft) -> None:
    if draft.values.get("optimizer") == "adamw_hf":
        text = f"optimizer: adamw_hf is read as `adamw_torch` ({SINCE})"
        draft.replace(("optimizer",), {("optimizer",): "adamw_torch"}, text)


_TRANSFORMS: Sequence[Callable[[Draft], None]] = (
    _attention,
    _exact_attention,
    _shares_of_steps,
    _resume_switch,
    _remote_code,
    _named_tokens,
    _pure_precision,
    _words_for_precision,
    _checkpointing,
    _best_checkpoint,
    _bitsandbytes,
    _safetensors,
    _fast_tokenizer,
    _optimizer_names,
    take_plugins,
)
