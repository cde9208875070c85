"""What a value of a key that is not built yet can be: its kind, its bounds, its names.

Such keys have no section that would judge them. A key that stands in no table takes text; a block
of which no key is named here is free-form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from tunesmith.config.words import given, listed, number
from tunesmith.errors import Problem
from tunesmith.registry import nearest

# Kind -> keys. The kinds are `BOUNDS` of numbers, and what `TYPES` names.
_KINDS: Mapping[str, str] = {
    "flag": """
        activation_offloading dpo_use_weighting precompute_ref_log_probs dpo_use_liger_kernel
        dpo_padding_free
        rl_adapter_ref_model mask_thinking_ce reward_model process_reward_model
        kd_normalize_topk use_eaft liger_use_token_scaling deepcompile fp32_norms
        expert_parallel_fallback_on_unsupported qlora_sharded_model_loading use_ray spawn
        use_wandb use_mlflow hf_mlflow_log_artifacts use_comet comet_online use_trackio
        use_swanlab swanlab_log_model swanlab_log_completions use_tensorboard use_otel_metrics
        generate_samples generation_do_sample do_bench_eval do_causal_lm_eval lm_eval_post_train
        apply_chat_template fewshot_as_multiturn load_best_model_at_end save_first_step
        greater_is_better skip_prepare_dataset auto_find_batch_size use_pose qgalore_proj_quant
        lr_quadratic_warmup relora relora_cpu_offload peft_use_dora peft_ensure_weight_tying
        freeze_mm_modules resize_token_embeddings_to_32x shrink_embeddings
        mean_resizing_embeddings embeddings_skip_upcast reinit_weights gptq use_onebitllms
        quantize_moe_experts gptq_disable_exllama nvfp4_merge_aware fp8
        fp8_enable_fsdp_float8_all_gather layer_offloading ple_cpu_offload tiled_mlp
        tiled_mlp_use_original_mlp dense_mixer llama4_linearized_experts use_scattermoe
        use_sonicmoe use_dsv4_kernels use_glm_dsa_kernels dsv4_bf16_all moe_bnb_fast
        dsv4_fp8_lora_kernel dsv4_shared_mlp_lora_kernel gemma4_fp8_nonexpert
        gemma4_nf4_nonexpert sage_attention scaling_softmax gemma4_hybrid_attn_impl
        flash_attn_d512 tokenizer_use_mistral_common nemo_gym_enabled nemo_gym_auto_clone
        nemo_gym_auto_start nemo_gym_multi_turn gradio_share role_boundaries[].include_start
        role_boundaries[].include_end trl.use_vllm trl.log_completions trl.sync_ref_model
        trl.scale_rewards trl.use_liger_loss trl.mask_truncated_completions
        trl.vllm_enable_sleep_mode trl.use_data_producer trl.async_prefetch
        trl.streaming_partial_batch trl.vllm_importance_sampling_correction
        trl.use_bias_correction_kl trl.replay_recompute_logps trl.skip_zero_advantage_batches
        trl.vllm_lora_sync vllm.enable_prefix_caching vllm.enable_reasoning vllm.enforce_eager
        ebft.use_whitening ebft.adaptive_max_tokens qat.quantize_embedding
        quantization.quantize_embedding dynamic_checkpoint.enabled
        selective_checkpointing.save_sliding_window selective_checkpointing.offload
        fsdp_config.activation_checkpointing fsdp_config.offload_params
        fsdp_config.sync_module_states fsdp_config.cpu_ram_efficient_loading
        fsdp_config.cpu_offload_pin_memory fsdp_config.use_orig_params
        fsdp_config.reshard_after_forward diffusion.importance_weighting
        diffusion.generate_samples hatchery.train_attn hatchery.train_mlp hatchery.train_unembed
        hatchery.pipeline llmcompressor.save_compressed mora.use_mora""",
    "count": """
        max_prompt_len num_labels kd_online_topk kd_online_timeout eaft_k dp_shard_size
        dp_replicate_size context_parallel_size tensor_parallel_size
        expert_parallel_size heads_k_stride expert_parallel_num_nvl_bytes
        expert_parallel_token_capacity ray_num_workers gpu_count node_count memory
        memory_preprocess timeout timeout_preprocess swanlab_completion_log_interval
        swanlab_completion_max_buffer otel_metrics_port profiler_steps num_generation_samples
        generation_max_new_tokens eval_max_new_tokens lm_eval_batch_size early_stopping_patience
        pose_max_context_len pose_num_chunks dion_rank_multiple_of qgalore_rank
        qgalore_update_proj_gap qgalore_proj_bits qgalore_proj_group_size qgalore_gamma_proj
        qgalore_queue_size jagged_restart_steps lisa_n_layers lisa_step_interval
        tiled_mlp_num_shards moe_dequant_chunk_size nemo_gym_head_port nemo_gym_server_timeout
        nemo_gym_verify_timeout nemo_gym_run_timeout nemo_gym_max_turns gradio_server_port
        gradio_max_new_tokens peft.loftq_config.loftq_bits trl.max_completion_length
        trl.vllm_server_port trl.vllm_server_timeout trl.generation_batch_size
        trl.num_generations trl.num_completions_to_print trl.ref_model_sync_steps
        trl.num_iterations trl.prefetch_depth trl.vllm_sync_interval trl.streaming_min_groups
        trl.reward_num_workers trl.reroll_max_groups vllm.tensor_parallel_size
        vllm.data_parallel_size vllm.max_model_len vllm.port ebft.stride ebft.context_length
        ebft.generate_max_len ebft.n_samples_per_prompt qat.group_size quantization.group_size
        dynamic_checkpoint.check_interval fsdp_config.min_num_params
        diffusion.num_diffusion_steps diffusion.generation_interval
        diffusion.num_generation_samples diffusion.generation_steps
        diffusion.generation_max_length hatchery.lora_rank hatchery.max_sample_tokens
        hatchery.num_samples hatchery.save_steps""",
    "integer": """
        trl.top_k""",
    "whole": """
        expert_parallel_num_rdma_bytes profiler_steps_start eval_table_size generation_top_k
        jagged_restart_warmup_steps jagged_restart_anneal_steps
        trl.replay_buffer_size ebft.min_completion_prefix qat.fake_quant_after_n_steps
        diffusion.mask_token_id""",
    "rate": """
        rl_beta orpo_alpha simpo_gamma cpo_alpha kto_desirable_weight
        kto_undesirable_weight center_rewards_coefficient kd_ce_alpha kd_temperature kd_beta
        kd_temperature_min eaft_alpha generation_temperature
        embedding_lr embedding_lr_scale loraplus_lr_ratio loraplus_lr_embedding adam_epsilon2
        dion_lr qgalore_scale grokfast_lamb nvfp4_merge_aware_start_step gradio_temperature
        datasets[].temperature lr_groups[].lr trl.beta trl.temperature trl.repetition_penalty
        trl.epsilon trl.epsilon_high trl.vllm_importance_sampling_cap ebft.alignment_coef
        ebft.diversity_coef ebft.ce_coef ebft.gt_length_multiplier ebft.temperature ebft.rl_coef
        diffusion.eps diffusion.generation_temperature hatchery.sample_temperature
        hatchery.future_timeout""",
    "share": """
        dpo_label_smoothing kd_alpha generation_top_p generation_prompt_ratio adam_beta3
        dion_momentum dion_rank_fraction qgalore_cos_threshold cosine_constant_lr_ratio
        relora_prune_ratio grokfast_alpha spectrum_top_fraction trl.ref_model_mixup_alpha
        trl.top_p trl.min_p trl.reroll_start_fraction vllm.gpu_memory_utilization ebft.top_p
        diffusion.min_mask_ratio diffusion.max_mask_ratio""",
    "positive": """
        neftune_noise_alpha""",
    "number": """
        scaling_softmax_factor scaling_softmax_bias trl.off_policy_mask_threshold""",
    "text": """
        role_boundaries[].role role_boundaries[].start role_boundaries[].end lr_groups[].name
        trl.vllm_server_host trl.vllm_guided_decoding_regex trl.loss_type trl.rollout_func
        vllm.device vllm.dtype vllm.host vllm.reasoning_parser vllm.serve_module
        vllm.worker_extension_cls dynamic_checkpoint.trigger_file_path
        fsdp_config.transformer_layer_cls_to_wrap fsdp_config.mixed_precision_policy
        diffusion.mask_token_str hatchery.base_url hatchery.api_key hatchery.project_id
        hatchery.save_name_prefix volumes[].name volumes[].mount fp8_config.recipe""",
    "words": """
        dpo_loss_type fsdp fp32_norm_classes dockerfile_commands secrets lm_eval_tasks
        eval_causal_lm_metrics optim_target_modules lora_target_parameters peft_layers_pattern
        unfrozen_parameters tokens nemo_gym_config_paths lr_groups[].modules trl.reward_funcs
        selective_checkpointing.save selective_checkpointing.recompute_layer_types
        hatchery.reward_funcs""",
    "list": """
        dpo_loss_weights volumes pose_split_on_token_ids lr_groups peft_layers_to_transform
        peft_layer_replication lora_exclude_modules role_boundaries nemo_gym_datasets
        trl.reward_weights ebft.feature_layers trl.reward_processing_classes""",
    "map": """
        trl vllm ebft diffusion fsdp_config resources_per_worker hatchery
        comet_experiment_config dynamic_checkpoint lora_rank_pattern lora_alpha_pattern peft
        mora added_tokens_overrides model_quantization_config_kwargs qat quantization
        llmcompressor fp8_config max_memory processor_kwargs overrides_of_model_kwargs
        model_kwargs peft.loftq_config trl.generation_kwargs trl.chat_template_kwargs
        hatchery.loss_fn_config""",
    "any": """
        kd_trainer deepspeed env peft_init_lora_weights peft_trainable_token_indices
        fix_untrained_tokens selective_checkpointing gpu_memory_limit
        image_size image_resize_algorithm llmcompressor.recipe mora.mora_type""",
}

# Key -> the names that it takes; one of kind "flag" takes truth values beside them.
NAMES: Mapping[str, str] = {
    "activation_offloading": "legacy disk hidden_states",
    "diffusion.noise_schedule": "linear cosine",
    "dpo_loss_type": """
        sigmoid hinge ipo exo_pair nca_pair robust bco_pair sppo_hard aot aot_unpaired discopop
        apo_zero apo_down sft""",
    "ebft.advantage_estimator": "rloo group_norm reinforce",
    "ebft.embed_method": "last_token mean_pooling completion_mean concat",
    "ebft.mode": "structured strided",
    "eval_causal_lm_metrics": "sacrebleu comet ter chrf perplexity",
    "expert_parallel_backend": "deep_ep",
    "fsdp_config.auto_wrap_policy": "TRANSFORMER_BASED_WRAP SIZE_BASED_WRAP",
    "fsdp_config.final_state_dict_type": "FULL_STATE_DICT LOCAL_STATE_DICT SHARDED_STATE_DICT",
    "fsdp_config.state_dict_type": "FULL_STATE_DICT LOCAL_STATE_DICT SHARDED_STATE_DICT",
    "fsdp_config.version": "1 2",
    "fsdp_final_state_dict_type": "FULL_STATE_DICT LOCAL_STATE_DICT SHARDED_STATE_DICT",
    "fsdp_version": "1 2",
    "hatchery.backend": "tinker hatchery",
    "hatchery.loss_fn": "cross_entropy importance_sampling ppo cispo dro",
    "hub_strategy": "end every_save checkpoint all_checkpoints",
    "kd_online_server": "vllm sglang",
    "large_head_attention": "auto sdpa triton_flash",
    "model_quantization_config": "Mxfp4Config FineGrainedFP8Config",
    "qat.activation_dtype": "int4 int8 fp8 float8 float8_e4m3fn nvfp4 mxfp4",
    "qat.weight_dtype": "int4 int8 fp8 float8 float8_e4m3fn nvfp4 mxfp4",
    "quantization.activation_dtype": "int4 int8 fp8 float8 float8_e4m3fn nvfp4 mxfp4",
    "quantization.weight_dtype": "int4 int8 fp8 float8 float8_e4m3fn nvfp4 mxfp4",
    "relora_prune_method": "magnitude random reset",
    "ring_attn_func": "varlen_llama3 batch_ring",
    "trl.importance_sampling_level": "sequence token",
    "trl.loss_type": "grpo bnpo dr_grpo dapo cispo sapo luspo",
    "trl.multi_objective_aggregation": "sum_then_normalize normalize_then_sum",
    "trl.vllm_importance_sampling_mode": """
        token_truncate token_mask sequence_truncate sequence_mask""",
    "trl.vllm_mode": "server colocate",
    "wandb_mode": "online offline disabled shared",
}

# Kind of a number -> least and most, whether the least itself is one, whether it is whole.
BOUNDS: Mapping[str, tuple[float, float, bool, bool]] = {
    "count": (1, 1e15, True, True),
    "whole": (0, 1e15, True, True),
    "integer": (-1e15, 1e15, True, True),
    "rate": (0, 1e9, True, False),
    "share": (0, 1, True, False),
    "positive": (0, 1e9, False, False),
    "number": (-1e15, 1e15, True, False),
}

# Kind -> the types of YAML that it takes, and what they are called.
TYPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    "flag": ((bool,), "true or false"),
    "text": ((str,), "text"),
    "words": ((list, str), "a list of text"),
    "list": ((list,), "a list"),
    "map": ((dict,), "a mapping"),
}

_FEW = 4
"""Names that a message can list."""

_OLD_PREFIX = "fsdp_config.fsdp_"


def plain_key(flat: str) -> str:
    """The name that the tables know a key by: entries are alike, old prefixes left out."""
    flat = flat.replace("test_datasets[]", "datasets[]")
    return flat.replace(_OLD_PREFIX, "fsdp_config.") if flat.startswith(_OLD_PREFIX) else flat


@cache
def kinds() -> Mapping[str, str]:
    """Every key of the tables -> its kind, "name" where only names are known."""
    listed = {key: kind for kind, keys in _KINDS.items() for key in keys.split()}
    return dict.fromkeys(NAMES, "name") | listed


@cache
def inner_keys(block: str) -> tuple[str, ...]:
    """The keys of a block (``trl``) or of the entries of a list (``lr_groups[]``); none where it
    is free-form.
    """
    inside = [key[len(block) + 1 :] for key in kinds() if key.startswith(f"{block}.")]
    return tuple(name for name in inside if "." not in name)


def value_problem(flat: str, value: Any) -> Problem | None:
    """What is wrong with the value of a key, its place and key left out."""
    problem = _problem(flat, value)
    if problem is None or problem.fix:
        return problem
    return replace(problem, fix="correct it, or take it out")


def _problem(flat: str, value: Any) -> Problem | None:
    key = plain_key(flat)
    kind = kinds().get(key, "text")
    if key in NAMES and not (kind == "flag" and isinstance(value, bool)):
        return _name_problem(value, NAMES[key].split())
    if kind in BOUNDS:
        return _number_problem(value, kind)
    types, called = TYPES.get(kind, ((object,), ""))
    if isinstance(value, types):
        return None
    fix = f"put it in quotes: '{value}'" if called == "text" and not _is_block(value) else ""
    return Problem("wrong-type", f"must be {called}, not {given(value)}", fix)


def _name_problem(value: Any, names: list[str]) -> Problem | None:
    """Each of a list of names, or the one, is known."""
    for item in value if isinstance(value, list) else [value]:
        if str(item) in names:
            continue
        if _is_block(item):
            return Problem("wrong-type", f"must be one of {', '.join(names)}, not {given(item)}")
        meant = None if str(item).isdigit() else nearest(str(item), names)
        if len(names) <= _FEW:
            allowed = f"must be {listed([f'`{name}`' for name in names])}, not {given(item)}"
            return Problem("out-of-range", allowed, f"did you mean `{meant}`?" if meant else "")
        fix = f"did you mean `{meant}`?" if meant else f"one of: {', '.join(names)}"
        return Problem("out-of-range", f"{given(item)} is none of its names", fix)
    return None


def _number_problem(value: Any, kind: str) -> Problem | None:
    least, most, closed, whole = BOUNDS[kind]
    found = _as_number(value)
    if found is None or (whole and math.isfinite(found) and found != int(found)):
        called = "a whole number" if whole else "a number"
        return Problem("wrong-type", f"must be {called}, not {given(value)}")
    if not math.isfinite(found):
        return Problem("out-of-range", f"must be a finite number, not {given(value)}")
    if found < least or (found == least and not closed):
        bound = f"{number(least)} or more" if closed else f"greater than {number(least)}"
        return Problem("out-of-range", f"must be {bound}, not {given(value)}")
    if found > most:
        return Problem("out-of-range", f"must be {number(most)} or less, not {given(value)}")
    return None


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None if isinstance(value, str) else math.inf


def _is_block(value: Any) -> bool:
    return isinstance(value, list | dict)
