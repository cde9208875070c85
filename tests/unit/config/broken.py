"""Configs that break one rule each: over what is built (`BUILT`), over what is not (`ASKED`)."""

from __future__ import annotations

from typing import Any

RIGHT: dict[str, Any] = {
    "base_model": "m",
    "learning_rate": 1e-4,
    "micro_batch_size": 2,
    "datasets": [{"path": "a", "type": "alpaca"}],
}
CHAT = [{"path": "a", "type": "chat_template"}]
LORA = {"adapter": "lora", "lora_target_linear": True}
QLORA = {**LORA, "adapter": "qlora", "load_in_4bit": True}
FSDP2 = {"fsdp_version": 2}
OUT = None  # a null key is one that is not set

Case = tuple[dict[str, Any], str, str]
"""What is added to `RIGHT`, the problem's code, its key."""


def _entry(**keys: Any) -> dict[str, Any]:
    return {"datasets": [{"path": "a", **keys}]}


BUILT: list[Case] = [
    ({"micro_batch_size": OUT}, "missing", "micro_batch_size"),
    ({"micro_batch_size": OUT, "gradient_accumulation_steps": 4}, "missing", "micro_batch_size"),
    ({"micro_batch_size": OUT, "batch_size": 8}, "missing", "micro_batch_size"),
    ({"batch_size": 7}, "conflict", "batch_size"),
    ({"batch_size": 1}, "conflict", "batch_size"),
    (
        {"micro_batch_size": OUT, "batch_size": 7, "gradient_accumulation_steps": 2},
        "conflict",
        "batch_size",
    ),
    ({"batch_size": 6, "gradient_accumulation_steps": 2}, "conflict", "batch_size"),
    ({"warmup_steps": 3, "warmup_ratio": 0.1}, "conflict", "warmup_ratio"),
    ({"warmup_steps": 10, "max_steps": 10}, "conflict", "warmup_steps"),
    ({"save_steps": 5, "saves_per_epoch": 2}, "conflict", "saves_per_epoch"),
    ({"save_steps": 5, "save_strategy": "epoch"}, "conflict", "save_steps"),
    ({"saves_per_epoch": 5, "save_strategy": "no"}, "conflict", "saves_per_epoch"),
    ({"save_steps": 2.5}, "out-of-range", "save_steps"),
    (
        {"eval_steps": 5, "evals_per_epoch": 2, "val_set_size": 0.1},
        "conflict",
        "evals_per_epoch",
    ),
    ({"eval_steps": 5}, "conflict", "eval_steps"),
    ({"eval_strategy": "epoch"}, "conflict", "eval_strategy"),
    ({"eval_first": True}, "conflict", "eval_first"),
    ({"datasets": OUT}, "missing", "datasets"),
    ({"datasets": []}, "missing", "datasets"),
    ({"val_set_size": 0.1, "test_datasets": CHAT}, "conflict", "val_set_size"),
    ({"val_set_size": 1.5}, "out-of-range", "val_set_size"),
    ({"chat_template": "jinja"}, "missing", "chat_template_jinja"),
    ({"chat_template_jinja": "x", "chat_template": "chatml"}, "conflict", "chat_template_jinja"),
    (_entry(chat_template="jinja"), "missing", "datasets.0.chat_template_jinja"),
    (_entry(type="alpaca", field="x"), "conflict", "datasets.0.field"),
    (
        _entry(type="alpaca", roles_to_train=["user"]),
        "conflict",
        "datasets.0.roles_to_train",
    ),
    ({"sequence_len": 8, "min_sample_len": 9}, "conflict", "min_sample_len"),
    ({**LORA, "load_in_4bit": True, "load_in_8bit": True}, "conflict", "load_in_8bit"),
    ({"load_in_4bit": True}, "conflict", "load_in_4bit"),
    ({"load_in_8bit": True}, "conflict", "load_in_8bit"),
    ({**LORA, "adapter": "qlora"}, "missing", "load_in_4bit"),
    ({**LORA, "adapter": "qlora", "load_in_8bit": True}, "conflict", "load_in_8bit"),
    ({"adapter": "lora"}, "missing", "lora_target_linear"),
    ({"adapter": "lora", "lora_target_modules": []}, "missing", "lora_target_linear"),
    ({"adapter": "lora", "lora_target_modules": "(q"}, "out-of-range", "lora_target_modules"),
    (
        {**QLORA, "bnb_config_kwargs": {"bnb_4bit_quant_typ": "nf4"}},
        "out-of-range",
        "bnb_config_kwargs.bnb_4bit_quant_typ",
    ),
    (
        {**QLORA, "bnb_config_kwargs": {"bnb_4bit_compute_dtype": "bflaot16"}},
        "out-of-range",
        "bnb_config_kwargs.bnb_4bit_compute_dtype",
    ),
    ({"bf16": True, "fp16": True}, "conflict", "fp16"),
    ({"optimizer": "adamw_tortch"}, "out-of-range", "optimizer"),
    ({"optimizer": "no optimizer at all"}, "out-of-range", "optimizer"),
    ({"lr_scheduler": "cosin"}, "out-of-range", "lr_scheduler"),
    (_entry(type="alpacca"), "out-of-range", "datasets.0.type"),
    ({"chat_template": "chatlm"}, "out-of-range", "chat_template"),
    (
        {"chat_template": "tokenizer_default_fallback_chatlm"},
        "out-of-range",
        "chat_template",
    ),
    ({"chat_template": "{{ messages }}"}, "out-of-range", "chat_template"),
    ({"attn_implementation": "flash"}, "out-of-range", "attn_implementation"),
    ({"attn_implementation": "someone/kernel"}, "refused", "attn_implementation"),
]

ASKED: list[Case] = [
    ({"streaming": True}, "missing", "max_steps"),
    ({"streaming": True, "max_steps": 5, "val_set_size": 0.1}, "conflict", "val_set_size"),
    (
        {"streaming": True, "max_steps": 5, "group_by_length": True},
        "conflict",
        "group_by_length",
    ),
    (
        {"streaming": True, "max_steps": 5, "dataset_exact_deduplication": True},
        "conflict",
        "dataset_exact_deduplication",
    ),
    ({"batch_flattening": True, "sample_packing": True}, "conflict", "batch_flattening"),
    ({"save_strategy": "best"}, "missing", "metric_for_best_model"),
    (
        {"early_stopping_patience": 3, "val_set_size": 0.1, "evals_per_epoch": 4},
        "missing",
        "early_stopping_patience",
    ),
    (
        {
            "early_stopping_patience": 3,
            "val_set_size": 0.1,
            "eval_steps": 50,
            "save_strategy": "epoch",
        },
        "missing",
        "early_stopping_patience",
    ),
    (
        {
            "early_stopping_patience": 3,
            "val_set_size": 0.1,
            "eval_steps": 50,
            "save_steps": 75,
        },
        "conflict",
        "save_steps",
    ),
    ({"do_bench_eval": True}, "missing", "do_bench_eval"),
    (
        {**LORA, "lora_target_parameters": ["experts"], "lora_dropout": 0.1},
        "conflict",
        "lora_dropout",
    ),
    (
        {**LORA, "loraplus_lr_ratio": 16, "lr_groups": [{"name": "a", "modules": ["q"], "lr": 1}]},
        "conflict",
        "lr_groups",
    ),
    (
        {**LORA, "peft_layers_to_transform": [1], "unfrozen_parameters": ["lm_head"]},
        "conflict",
        "unfrozen_parameters",
    ),
    ({**LORA, "peft_layers_pattern": ["layers"]}, "missing", "peft_layers_to_transform"),
    ({"use_onebitllms": True, **LORA}, "conflict", "use_onebitllms"),
    ({"gptq": True, **QLORA}, "conflict", "load_in_4bit"),
    ({"model_quantization_config": "Mxfp4Config", **QLORA}, "conflict", "load_in_4bit"),
    ({"qat": {"weight_dtype": "int8"}, **LORA}, "conflict", "qat"),
    ({"qat": {"weight_dtype": "int8"}, **QLORA}, "conflict", "qat"),
    ({"quantize_moe_experts": True, **LORA}, "missing", "quantize_moe_experts"),
    ({"quantize_moe_experts": True, **QLORA}, "conflict", "lora_target_linear"),
    (
        {**LORA, "fix_untrained_tokens": [7, 9], "peft_trainable_token_indices": [7]},
        "conflict",
        "peft_trainable_token_indices",
    ),
    ({"relora": True, "jagged_restart_steps": 100}, "missing", "relora"),
    ({"relora": True, **LORA}, "missing", "jagged_restart_steps"),
    (
        {"relora": True, **LORA, "jagged_restart_steps": 100, "lr_scheduler": "one_cycle"},
        "conflict",
        "lr_scheduler",
    ),
    (
        {"relora": True, **LORA, "jagged_restart_steps": 100, "deepspeed": "zero2.json"},
        "conflict",
        "relora",
    ),
    ({"nvfp4_merge_aware": True, "use_sonicmoe": True}, "conflict", "nvfp4_merge_aware"),
    ({"nvfp4_merge_aware": True, **LORA}, "missing", "use_sonicmoe"),
    ({"optimizer": "q_galore_adamw8bit", **LORA}, "conflict", "optimizer"),
    ({"activation_offloading": True}, "missing", "gradient_checkpointing"),
    ({"selective_checkpointing": True}, "missing", "gradient_checkpointing"),
    (
        {
            "selective_checkpointing": True,
            "gradient_checkpointing": True,
            "activation_offloading": "legacy",
        },
        "conflict",
        "activation_offloading",
    ),
    (
        {
            **LORA,
            "gradient_checkpointing": True,
            "selective_checkpointing": {"save": ["attention", "mm"]},
        },
        "conflict",
        "selective_checkpointing.save",
    ),
    ({"max_memory": {0: "20GiB"}, "gpu_memory_limit": 20}, "conflict", "gpu_memory_limit"),
    (
        {"fp8": True, "fp8_enable_fsdp_float8_all_gather": True},
        "conflict",
        "fp8_enable_fsdp_float8_all_gather",
    ),
    ({"fsdp": ["full_shard"], "deepspeed": "zero2.json"}, "conflict", "deepspeed"),
    (
        {"fsdp_config": {"offload_params": True}, "deepspeed": "zero2.json"},
        "conflict",
        "deepspeed",
    ),
    (
        {"fsdp_config": {"version": 2, "offload_params": True}, "optimizer": "adamw_bnb_8bit"},
        "conflict",
        "optimizer",
    ),
    ({"tensor_parallel_size": 2, "optimizer": "paged_adamw_8bit"}, "conflict", "optimizer"),
    (
        {"fsdp_config": {"fsdp_offload_params": True}, "optimizer": "adamw_8bit"},
        "conflict",
        "fsdp_config.fsdp_offload_params",
    ),
    (
        {**FSDP2, "fsdp_config": {"cpu_ram_efficient_loading": True}, **QLORA},
        "conflict",
        "fsdp_config.cpu_ram_efficient_loading",
    ),
    (
        {
            "fsdp_config": {"cpu_ram_efficient_loading": True},
            "model_quantization_config": "Mxfp4Config",
        },
        "conflict",
        "fsdp_config.cpu_ram_efficient_loading",
    ),
    (
        {**FSDP2, "fsdp_config": {"cpu_offload_pin_memory": False, "reshard_after_forward": True}},
        "conflict",
        "fsdp_config.cpu_offload_pin_memory",
    ),
    (
        {"fsdp_config": {"auto_wrap_policy": "SIZE_BASED_WRAP"}},
        "missing",
        "fsdp_config.min_num_params",
    ),
    ({"fsdp": ["full_shard"], "fp32_norms": True}, "conflict", "fp32_norms"),
    ({"deepcompile": True}, "missing", "deepspeed"),
    ({"rl": "dpo", "sample_packing": True}, "conflict", "sample_packing"),
    ({"rl": "dpo", **_entry(type="chatml.intl")}, "out-of-range", "datasets.0.type"),
    ({"rl": "kto", "dpo_loss_type": ["sigmoid"]}, "conflict", "dpo_loss_type"),
    (
        {"rl": "dpo", "dpo_loss_type": ["sigmoid", "sft"], "dpo_loss_weights": [1.0]},
        "conflict",
        "dpo_loss_weights",
    ),
    ({"rl": "grpo", "trl": {"num_generations": 1}}, "out-of-range", "trl.num_generations"),
    (
        {"rl": "gdpo", "trl": {"num_generations": 4}, "gradient_accumulation_steps": 3},
        "conflict",
        "trl.generation_batch_size",
    ),
    (
        {"rl": "grpo", "trl": {"num_generations": 4, "generation_batch_size": 10}},
        "conflict",
        "trl.generation_batch_size",
    ),
    (
        {"rl": "gdpo", "trl": {"multi_objective_aggregation": "sum_then_normalize"}},
        "conflict",
        "trl.multi_objective_aggregation",
    ),
    ({"rl": "ebft"}, "missing", "ebft.mode"),
    (
        {
            "rl": "ebft",
            "ebft": {"mode": "strided"},
            "torch_compile": True,
            "gradient_checkpointing": True,
        },
        "conflict",
        "torch_compile",
    ),
    (
        {
            "rl": "ebft",
            "ebft": {"mode": "strided"},
            "gradient_checkpointing": True,
            "activation_offloading": True,
            "attn_implementation": "flex_attention",
        },
        "conflict",
        "activation_offloading",
    ),
    ({"output_dir": None}, "missing", "output_dir"),
    ({"reward_model": True, "process_reward_model": True}, "conflict", "process_reward_model"),
    ({"use_scattermoe": True, "use_sonicmoe": True}, "conflict", "use_sonicmoe"),
    (
        {"gemma4_hybrid_attn_impl": True, "attn_implementation": "sdpa"},
        "conflict",
        "attn_implementation",
    ),
    ({"scaling_softmax": True}, "missing", "attn_implementation"),
    (
        {"tokenizer_use_mistral_common": True, "chat_template": "chatml"},
        "conflict",
        "chat_template",
    ),
    (
        {"processor_type": "AutoProcessor", "processor_kwargs": {"revision": "main"}},
        "conflict",
        "processor_kwargs.revision",
    ),
    ({"use_swanlab": True}, "missing", "swanlab_project"),
    (
        {"nemo_gym_enabled": True, "nemo_gym_datasets": [{"path": "tasks.jsonl"}]},
        "missing",
        "nemo_gym_config_paths",
    ),
    (
        {"diffusion": {"min_mask_ratio": 0.9, "max_mask_ratio": 0.1}},
        "conflict",
        "diffusion.min_mask_ratio",
    ),
]
