"""Words of other tools and of habit, and the key that each of them means."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from tunesmith.registry import plain

# Our key -> the words for it: of Hugging Face's arguments, TRL, LLaMA-Factory, Unsloth, torchtune.
_WORDS: Mapping[str, str] = {
    "learning_rate": "lr rate base_lr max_lr peak_lr",
    "lora_r": "r rank lora_rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "lora_target_modules": "target_modules lora_target lora_targets lora_modules",
    "lora_modules_to_save": "modules_to_save additional_target",
    "peft_use_rslora": "use_rslora rslora",
    "adapter": """
        peft_type lora qlora finetuning_type use_peft peft_config lora_config full_finetuning""",
    "base_model": """
        model model_name model_id model_path model_name_or_path base_model_name
        pretrained_model_name_or_path checkpoint pretrained_model""",
    "tokenizer_config": "tokenizer tokenizer_path tokenizer_name tokenizer_name_or_path",
    "datasets": """
        data dataset dataset_name train_datasets train_file dataset_text_field dataset_path
        train_data training_data dataset_dir""",
    "test_datasets": """
        eval_dataset eval_datasets val_datasets validation_datasets eval_data validation_file
        test_dataset validation_dataset""",
    "val_set_size": "val_size test_size validation_split do_eval",
    "num_epochs": "epochs num_train_epochs n_epochs num_epoch epoch max_epochs train_epochs",
    "max_steps": "steps train_steps num_steps iters max_iters total_steps max_train_steps",
    "micro_batch_size": """
        bs train_batch_size per_device_train_batch_size per_device_batch_size batch
        device_batch_size train_micro_batch_size_per_gpu""",
    "eval_batch_size": "per_device_eval_batch_size val_batch_size",
    "batch_size": "global_batch_size train_batch_size_total",
    "gradient_accumulation_steps": """
        ga grad_accum accumulation_steps gradient_accumulation gradient_accumulation_step""",
    "sequence_len": """
        max_length max_len max_seq_len max_seq_length seq_len cutoff_len context_length
        block_size max_tokens max_sequence_length sequence_length model_max_length context_len""",
    "sample_packing": "packing neat_packing",
    "eval_sample_packing": "eval_packing",
    "chat_template": "template",
    "optimizer": "optim adafactor",
    "optim_args": "optimizer_args",
    "lr_scheduler": "scheduler schedule lr_schedule lr_scheduler_type learning_rate_schedule",
    "warmup_steps": "warmup num_warmup_steps warmup_iters",
    "cosine_min_lr_ratio": "min_lr_ratio min_lr",
    "weight_decay": "decay wd",
    "max_grad_norm": "clip grad_clip gradient_clipping clip_grad_norm max_norm gradient_clip_val",
    "adam_beta1": "betas beta1",
    "adam_epsilon": "eps epsilon",
    "output_dir": "output out_dir save_dir save_path",
    "save_steps": "save_every save_freq save_interval",
    "eval_steps": "eval_every eval_freq eval_interval",
    "logging_steps": "log_every logging_strategy logging_first_step log_steps log_interval",
    "resume_from_checkpoint": "resume",
    "gradient_checkpointing": """
        checkpointing activation_checkpointing use_gradient_checkpointing grad_checkpointing""",
    "bf16": "dtype torch_dtype precision mixed_precision compute_type bfloat",
    "load_in_4bit": "4bit use_4bit quantization_bit",
    "load_in_8bit": "8bit use_8bit",
    "attn_implementation": "attention attn flash_attn",
    "seed": "random_seed data_seed random_state",
    "dataset_num_proc": "preprocessing_num_workers num_proc",
    "dataloader_num_workers": "num_workers",
    "eval_first": "eval_on_start",
    "eval_strategy": "evaluate_during_training",
    "use_wandb": "report_to",
    "wandb_name": "run_name",
    "hub_model_id": "push_to_hub",
    "unfrozen_parameters": "trainable_parameters",
    "train_on_inputs": """
        completion_only_loss assistant_only_loss train_on_prompt train_on_responses_only
        mask_prompt""",
    "rl_beta": "beta pref_beta",
    "dpo_loss_type": "loss_type",
    "max_prompt_len": "max_prompt_length",
    "rl": "stage pref_loss training_type method",
    "peft_use_dora": "use_dora dora",
    "lora_model_dir": "adapter_name_or_path",
    "warmup_ratio": "warmup_proportion",
    "adam_beta2": "beta2",
    "torch_compile": "compile",
    "datasets[].path": "file dataset file_name dataset_name hf_path",
    "datasets[].data_files": "files",
    "datasets[].type": "format prompt_template dataset_type",
    "datasets[].split": "train_on_split",
    "datasets[].name": "subset config",
    "datasets[].field_messages": "messages messages_field conversations",
    "datasets[].field": "text_field column",
    "datasets[].chat_template": "template",
    "special_tokens.pad_token": "pad",
    "special_tokens.eos_token": "eos",
    "special_tokens.bos_token": "bos",
    "datasets[].message_property_mappings": "columns tags",
    "datasets[].roles_to_train": "mask_prompt",
    "special_tokens.unk_token": "unk",
}


@cache
def synonyms() -> Mapping[tuple[str, str], str]:
    """(block, word without case and dashes) -> the key of that block; the block is "" at the top,
    ``datasets[]`` or ``special_tokens``.
    """
    found: dict[tuple[str, str], str] = {}
    for flat, words in _WORDS.items():
        block, _, key = flat.rpartition(".")
        for word in words.split():
            if found.setdefault((block, plain(word)), key) != key:
                raise ValueError(f"{word} means two keys")
    return found
