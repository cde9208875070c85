"""Keys of axolotl that no section reads yet, by the capability that they belong to.

They are known, so that ``rl: dpo`` is answered with "preference training is not built yet" and not
with "unknown key". Left at null, false, zero, empty or their default they pass without a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from tunesmith.config.dataset_types import format_name, is_compared
from tunesmith.config.draft import Draft, dotted_path, put_at
from tunesmith.config.flat import top_leaves
from tunesmith.config.kinds import inner_keys, plain_key, value_problem
from tunesmith.config.tree import Path, Place, scalar
from tunesmith.errors import REMOVE, Problem
from tunesmith.registry import nearest

CLOUD = "cloud launchers"

# capability: "keys that switch it on | keys that only mean something once it is on".
# `name=value` gives the default where it is not null, false, zero or empty: it alone asks for
# nothing then, beside null and empty. `name!` asks for something with zero too.
_TABLE: Mapping[str, str] = {
    "preference and reinforcement learning": """
        rl |
        rl_beta dpo_loss_type dpo_loss_weights dpo_use_weighting dpo_label_smoothing
        precompute_ref_log_probs dpo_use_liger_kernel dpo_padding_free orpo_alpha simpo_gamma
        cpo_alpha kto_desirable_weight kto_undesirable_weight max_prompt_len rl_adapter_ref_model
        trl vllm ebft mask_thinking_ce""",
    "reward models": """
        reward_model process_reward_model | center_rewards_coefficient num_labels""",
    "knowledge distillation": """
        kd_trainer kd_online_server_base_url |
        kd_ce_alpha kd_alpha kd_temperature kd_beta kd_normalize_topk kd_online_topk
        kd_online_server=vllm kd_online_timeout=120 kd_temperature_min""",
    "masked diffusion": "diffusion |",
    "reweighted losses": """
        use_eaft liger_use_token_scaling neftune_noise_alpha |
        eaft_alpha=1.0 eaft_k=20""",
    "going on from an adapter": "lora_model_dir |",
    "training on several devices": """
        deepspeed deepcompile fsdp fsdp_config dp_shard_size=1 dp_replicate_size=1
        context_parallel_size=1 tensor_parallel_size=1
        expert_parallel_size=1 |
        fsdp_version fp32_norms fp32_norm_classes fsdp_final_state_dict_type heads_k_stride
        ring_attn_func expert_parallel_backend=deep_ep expert_parallel_num_nvl_bytes=268435456
        expert_parallel_num_rdma_bytes expert_parallel_token_capacity
        expert_parallel_fallback_on_unsupported=true qlora_sharded_model_loading""",
    "Ray": "use_ray | ray_run_name ray_num_workers=1 resources_per_worker",
    CLOUD: """
        provider gpu gpu_count=1 node_count=1 dockerfile_commands docker_tag volumes secrets spawn |
        memory memory_preprocess timeout timeout_preprocess branch env project_name launcher""",
    "hosted training (Tinker, Hatchery)": "hatchery |",
    "Weights & Biases": """
        use_wandb wandb_project |
        wandb_name wandb_run_id wandb_mode wandb_entity wandb_watch wandb_log_model""",
    "MLflow": """
        use_mlflow mlflow_tracking_uri |
        mlflow_experiment_name mlflow_run_name hf_mlflow_log_artifacts""",
    "Comet": """
        use_comet |
        comet_api_key comet_workspace comet_project_name comet_experiment_key comet_mode
        comet_online comet_experiment_config""",
    "Trackio": "use_trackio | trackio_project_name trackio_run_name trackio_space_id",
    "SwanLab": """
        use_swanlab swanlab_project |
        swanlab_experiment_name swanlab_description swanlab_mode swanlab_workspace swanlab_api_key
        swanlab_log_model swanlab_web_host swanlab_api_host swanlab_lark_webhook_url
        swanlab_lark_secret swanlab_log_completions=true swanlab_completion_log_interval=100
        swanlab_completion_max_buffer=128""",
    "TensorBoard": "use_tensorboard |",
    "OpenTelemetry metrics": "use_otel_metrics | otel_metrics_host otel_metrics_port",
    "profiling": "profiler_steps | profiler_steps_start",
    "sample generations while training": """
        generate_samples eval_table_size |
        num_generation_samples generation_max_new_tokens generation_temperature generation_top_p
        generation_top_k generation_prompt_ratio generation_do_sample eval_max_new_tokens""",
    "benchmarks in evaluation": """
        do_bench_eval do_causal_lm_eval lm_eval_tasks |
        bench_dataset bench_split eval_causal_lm_metrics lm_eval_batch_size lm_eval_post_train
        lm_eval_model apply_chat_template fewshot_as_multiturn""",
    "best checkpoint and early stopping": """
        early_stopping_patience load_best_model_at_end metric_for_best_model save_first_step
        dynamic_checkpoint |
        greater_is_better""",
    "pushing to the hub": """
        hub_model_id push_dataset_to_hub | hub_strategy hub_revision""",
    "finding the batch size": "auto_find_batch_size |",
    "PoSE": """
        use_pose | pose_split_on_token_ids pose_max_context_len pose_num_chunks""",
    "further learning rates": """
        embedding_lr! embedding_lr_scale=1 lr_groups loraplus_lr_ratio |
        loraplus_lr_embedding=1e-06""",
    "further optimizers": """
        optim_target_modules |
        adam_epsilon2 adam_beta3 dion_lr dion_momentum dion_rank_fraction dion_rank_multiple_of
        qgalore_rank qgalore_update_proj_gap qgalore_scale qgalore_proj_type qgalore_proj_quant=true
        qgalore_proj_bits qgalore_proj_group_size qgalore_cos_threshold qgalore_gamma_proj
        qgalore_queue_size""",
    "further schedules": """
        lr_quadratic_warmup cosine_constant_lr_ratio jagged_restart_steps |
        jagged_restart_warmup_steps jagged_restart_anneal_steps""",
    "ReLoRA": "relora | relora_prune_ratio relora_prune_method=magnitude relora_cpu_offload",
    "LISA": "lisa_n_layers | lisa_step_interval lisa_layers_attribute",
    "GrokFast": "grokfast_alpha grokfast_lamb |",
    "Spectrum": "spectrum_top_fraction spectrum_model_name |",
    "further kinds of LoRA": """
        lora_target_parameters lora_rank_pattern lora_alpha_pattern peft_layers_to_transform!
        peft_layers_pattern peft peft_use_dora peft_layer_replication peft_init_lora_weights=true
        peft_trainable_token_indices peft_ensure_weight_tying peft_adapter lora_exclude_modules
        mora |""",
    "training chosen parameters": "unfrozen_parameters freeze_mm_modules |",
    "new and resized embeddings": """
        tokens added_tokens_overrides resize_token_embeddings_to_32x shrink_embeddings
        fix_untrained_tokens! |
        mean_resizing_embeddings embeddings_skip_upcast""",
    "random weights": "reinit_weights |",
    "further quantised bases": """
        gptq model_quantization_config use_onebitllms quantize_moe_experts nonexpert_quantization |
        model_quantization_config_kwargs gptq_disable_exllama""",
    "quantisation-aware training and export": """
        qat quantization llmcompressor nvfp4_merge_aware | nvfp4_merge_aware_start_step""",
    "fp8": "fp8 fp8_config | fp8_enable_fsdp_float8_all_gather",
    "offloading": """
        activation_offloading layer_offloading ple_cpu_offload selective_checkpointing tiled_mlp
        max_memory gpu_memory_limit |
        tiled_mlp_num_shards tiled_mlp_use_original_mlp=true""",
    "mixtures of experts": """
        dense_mixer experts_implementation expert_backend llama4_linearized_experts
        use_scattermoe use_sonicmoe use_dsv4_kernels use_glm_dsa_kernels dsv4_bf16_all |
        moe_grouped_backend moe_dequant_chunk_size moe_bnb_fast dsv4_fp8_nonexpert_mode
        dsv4_fp8_lora_kernel dsv4_shared_mlp_lora_kernel dsv4_fp4_grouped_mode gemma4_fp8_nonexpert
        gemma4_nf4_nonexpert""",
    "further attention functions": """
        sage_attention scaling_softmax gemma4_hybrid_attn_impl large_head_attention
        flash_attn_d512 |
        scaling_softmax_factor scaling_softmax_bias""",
    "images, audio and video": """
        processor_type image_size role_boundaries | processor_kwargs image_resize_algorithm
        skip_prepare_dataset""",
    "mistral-common's tokenizer": "tokenizer_use_mistral_common |",
    "other model classes": """
        cls_model_config overrides_of_model_kwargs model_kwargs trainer_cls |""",
    "NeMo Gym": """
        nemo_gym_enabled nemo_gym_config_paths nemo_gym_datasets |
        nemo_gym_dir nemo_gym_auto_clone nemo_gym_head_port nemo_gym_server_timeout
        nemo_gym_verify_timeout nemo_gym_run_timeout nemo_gym_auto_start=true nemo_gym_model_name
        nemo_gym_multi_turn nemo_gym_max_turns""",
    "the web page to chat": """
        gradio_title gradio_share gradio_server_name gradio_server_port gradio_max_new_tokens
        gradio_temperature |""",
}

# The same for the keys of a data set's entry and of its inline `type`.
_ENTRY_TABLE: Mapping[str, str] = {
    "knowledge distillation": "logprobs_field | temperature",
    "old prompt styles": "input_format input_transform field_human field_model |",
}

# Capability -> built keys that are judged by other rules once it is on: nothing is said of them.
_SILENCES: Mapping[str, frozenset[str]] = {
    name: frozenset({"datasets", "test_datasets"})
    for name in (
        "preference and reinforcement learning",
        "reward models",
        "knowledge distillation",
        "masked diffusion",
    )
} | {"further kinds of LoRA": frozenset({"lora_target_linear"})}

_SEEN: frozenset[str] = frozenset({"preference and reinforcement learning", "reward models"})
"""Capabilities whose rows can be looked at although nothing trains with them yet."""

RL_METHODS: Mapping[str, str] = {
    "dpo": "preference training (DPO)",
    "ipo": "preference training (IPO)",
    "orpo": "preference training (ORPO)",
    "kto": "preference training (KTO)",
    "simpo": "preference training (SimPO)",
    "grpo": "reinforcement learning (GRPO)",
    "gdpo": "reinforcement learning (GDPO)",
    "ebft": "energy-based fine-tuning (EBFT)",
}

# Keys of the first version of FSDP -> what stands for them in the second.
FSDP1_ONLY: Mapping[str, str] = {
    "fsdp_config.limit_all_gathers": "FSDP2 always limits them",
    "fsdp_config.sharding_strategy": "`reshard_after_forward` says it, true for FULL_SHARD",
    "fsdp_config.backward_prefetch": "FSDP2 fetches ahead by itself",
    "fsdp_config.forward_prefetch": "FSDP2 fetches ahead by itself",
}

# Key and value that switch a tracker off, whatever else is set.
_SWITCHED_OFF: Mapping[str, Any] = {
    "use_wandb": False,
    "wandb_mode": "disabled",
    "use_mlflow": False,
    "use_comet": False,
    "comet_mode": "disabled",
    "use_trackio": False,
    "use_swanlab": False,
    "swanlab_mode": "disabled",
}

_OFF_WORDS = {"no", "off", "none", "false", "disabled"}


@dataclass(frozen=True, slots=True)
class UnbuiltKey:
    """A known key that nothing reads: what it belongs to, and whether it switches that on."""

    capability: str
    switches: bool
    off: Any = None
    zero_asks: bool = False

    def is_off(self, value: Any) -> bool:
        """Whether this value asks for nothing: null, empty, the default, and false and zero where
        the default is none of its own.
        """
        if value is None or value in ("", [], {}):
            return True
        if isinstance(value, str) and value.lower() in _OFF_WORDS:
            return not isinstance(self.off, bool)
        if self.off:
            return bool(value == self.off and isinstance(value, bool) == isinstance(self.off, bool))
        return value is False or (not value and not self.zero_asks)


@cache
def unbuilt_keys() -> Mapping[str, UnbuiltKey]:
    """Every such key by flat name; keys of a data set's entry begin with ``datasets[].``."""
    found = _parse(_TABLE)
    for listed in ("datasets[].", "test_datasets[]."):
        found |= {listed + name: item for name, item in _parse(_ENTRY_TABLE).items()}
    return found


def _parse(table: Mapping[str, str]) -> dict[str, UnbuiltKey]:
    found: dict[str, UnbuiltKey] = {}
    for capability, words in table.items():
        switches, _, parameters = words.partition("|")
        for group, switching in ((switches, True), (parameters, False)):
            for word in group.split():
                name, _, off = word.partition("=")
                key, asks = name.removesuffix("!"), name.endswith("!")
                found[key] = UnbuiltKey(capability, switching, scalar(off), asks)
    return found


def take_unbuilt(
    draft: Draft, found: Sequence[tuple[str, Path, Any]], *, lenient: bool = False
) -> None:
    """Answer the keys (flat name, path, value) that belong to nothing built, and drop them.

    One problem for each capability that is switched on, at its first key, and one notice for each
    key whose capability is not. Values that cannot be are problems of their own.
    """
    asked: dict[str, list[_Asking]] = {}
    for each in draft.switched:
        asking = _Asking("plugins", each.path, True, each.place)
        asked.setdefault(each.capability, []).append(asking)
    off = {
        unbuilt_keys()[flat].capability
        for flat, path, value in found
        if flat in _SWITCHED_OFF and draft.old_booleans.get(path, value) == _SWITCHED_OFF[flat]
    }
    for flat, path, value in found:
        known = unbuilt_keys()[flat]
        if not known.is_off(value):
            right = judge_value(draft, flat, path, value, lenient=lenient)
            asking = _Asking(flat, path, known.switches, draft.place(path), value, is_right=right)
            asked.setdefault(known.capability, []).append(asking)
        draft.drop(path)
    for capability, items in asked.items():
        if capability not in off and any(item.switches for item in items):
            _refuse(draft, capability, items)
            draft.silenced |= _SILENCES.get(capability, frozenset())
            continue
        for item in (each for each in items if each.is_right):
            how = "switched off" if capability in off else "not switched on"
            text = f"{item.flat} has no effect: {capability} is {how}"
            draft.left_out(item.path, text)


@dataclass(frozen=True, slots=True)
class _Asking:
    """A key, or a plugin, that asks for a capability."""

    flat: str
    path: Path
    switches: bool
    place: Place
    value: Any = None
    is_right: bool = True


def judge_value(draft: Draft, flat: str, path: Path, value: Any, *, lenient: bool) -> bool:
    """Note what is wrong with the value of a key that is not built, and inside of it; False where
    that is the value itself.
    """
    meant = draft.old_booleans.get(path, value)
    problem = None if flat == "rl" else value_problem(flat, meant)
    if problem is not None:
        edit = problem.edit or {dotted_path(path): REMOVE}
        draft.problems.append(draft.placed(replace(problem, edit=edit), path))
        draft.removed.add(str(path[0]))
        return False
    blocks = enumerate(value) if isinstance(value, list) else [(None, value)]
    outer = plain_key(flat) + ("[]" if isinstance(value, list) else "")
    for number, block in blocks:
        if isinstance(block, dict) and inner_keys(outer):
            around = path if number is None else (*path, number)
            for name in list(block):
                _judge_inner(draft, f"{outer}.{name}", (*around, name), lenient=lenient)
    return True


def _judge_inner(draft: Draft, flat: str, path: Path, *, lenient: bool) -> None:
    outer, _, name = plain_key(flat).rpartition(".")
    known, value, key = inner_keys(outer), draft.get(path), dotted_path(path)
    if value is None:
        return
    if name in known:
        judge_value(draft, flat, path, value, lenient=lenient)
    elif f"{outer}.{name}" in FSDP1_ONLY:
        draft.left_out(path, f"{key} is left out: {FSDP1_ONLY[f'{outer}.{name}']}")
    elif lenient:
        draft.notice(path, f"unknown key `{key}` is left out (--lenient)")
    else:
        meant = nearest(name, known)
        edit: dict[str, Any] = {key: REMOVE}
        if meant and draft.get((*path[:-1], meant)) is None:
            edit[dotted_path((*path[:-1], meant))] = value
        fix = f"did you mean `{meant}`?" if meant else f"one of: {', '.join(known)}"
        draft.problem("unknown-key", path, f"there is no key `{name}` in `{outer}`", fix, edit)


def _refuse(draft: Draft, capability: str, items: Sequence[_Asking]) -> None:
    """One problem for a capability, at the first key that switches it on."""
    keys = [item for item in items if item.flat != "plugins"]
    switches = [item for item in (*keys, *items) if item.switches and item.is_right]
    if not switches:
        return  # what is wrong with the value is said
    first = switches[0]
    method = str(first.value) if first.flat == "rl" else ""
    if method and method not in RL_METHODS:
        meant = nearest(method, RL_METHODS)
        fix = f"did you mean `{meant}`?" if meant else f"one of {', '.join(RL_METHODS)}"
        draft.problem("out-of-range", first.path, f"`{method}` is no method", fix, {"rl": meant})
        return
    name = RL_METHODS[method] if method else capability
    if draft.data_only and capability in _SEEN:
        draft.notice(first.path, not_trained(name))
        return
    gone = [dotted_path(item.path) for item in items]
    fix = f"take out {', '.join(f'`{key}`' for key in gone)}"
    edit: dict[str, Any] = dict.fromkeys(gone, REMOVE)
    if method and _is_compared(draft, method):
        fix, edit = f"{fix}, and give `datasets` rows that hold an answer to learn", {}
    problem = Problem(
        "not-built", f"not built yet: {name}", fix, key=dotted_path(first.path), edit=edit
    )
    draft.problems.append(put_at(problem, first.place))


def _is_compared(draft: Draft, method: str) -> bool:
    """Whether the rows of some data set are of use to this method alone."""
    kinds = [entry.get("type") for _, entry in draft.entries()]
    named = [format_name(kind, method) for kind in kinds if kind and isinstance(kind, str)]
    return any(isinstance(kind, dict) for kind in kinds) or any(map(is_compared, named))


def not_trained(name: str) -> str:
    """The notice of a config whose rows can be looked at and nothing else."""
    return f"not built yet: {name}; its rows are read and shown, and nothing trains with them"


def other_file(draft: Draft) -> Problem | None:
    """The problem with a file of settings for a cloud launcher, which trains nothing; None for any
    other file.
    """
    cloud = [
        k for k in draft.values if k in unbuilt_keys() and unbuilt_keys()[k].capability == CLOUD
    ]
    if not cloud or any(key in top_leaves() for key in draft.values):
        return None
    problem = Problem(
        "refused",
        "this is no training config: it holds settings of a cloud launcher",
        "give the training config itself; launching on a cloud is not built yet",
    )
    return draft.placed(problem, (cloud[0],))
