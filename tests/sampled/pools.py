"""What types and bounds do not say: words that mean something, and how large a tiny run may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith import catalog
from tunesmith.config.checks.names import template_names
from tunesmith.registry import registry

FIXED: Mapping[str, Sequence[Any]] = {
    "base_model": ("GROUND/base", "GROUND/base", "GROUND/qwen", "GROUND/rows"),
    "datasets": ((),),
    "sequence_len": (160, 192, 256),
    "micro_batch_size": (1, 1, 2, 3),
    "learning_rate": (1e-3, 1e-2, 3e-2),
    "max_steps": (1, 2, 2, 2),
}
"""What every config has."""

LEFT_OUT: Mapping[str, str] = {
    "output_dir": "each run has its own",
    "adapter": "drawn with its targets",
    "preflight_skip": "drawn so that most runs are quick",
    "resume_from_checkpoint": "needs an earlier run; tests/effects has it",
    "plugins": "code of a user's own; tests/effects has it",
    "revision_of_model": "only a model of the hub has one",
    "datasets[].name": "only a data set of the hub has one",
    "datasets[].revision": "only a data set of the hub has one",
    "datasets[].path": "drawn with the rest of an entry",
    "datasets[].type": "drawn with the rest of an entry",
    "datasets[].data_files": "drawn with the rest of an entry",
    "datasets[].ds_type": "drawn with the rest of an entry",
}
"""Keys that are not drawn by themselves, and why."""

CAPS: Mapping[str, float] = {
    "": 64,
    "learning_rate": 0.1,
    "sequence_len": 256,
    "eval_sequence_len": 256,
    "min_sample_len": 24,
    "dataset_num_proc": 2,
    "dataloader_num_workers": 3,
    "gradient_accumulation_steps": 3,
    "batch_size": 6,
    "eval_batch_size": 4,
    "num_epochs": 3,
    "lora_r": 16,
    "lora_dropout": 0.9,
    "val_set_size": 3,
    "weight_decay": 1,
    "pad_to_multiple_of": 64,
}
"""How large numbers may be, so that a run stays tiny ("" is for all others)."""

FLOORS: Mapping[str, float] = {"lora_alpha": 1.0}
"""How small numbers may be, where less cannot change a bit in two steps."""

TEMPLATES = [*template_names(), "tokenizer_default", "tokenizer_default_fallback_chatml"]
JINJA = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

ENTRIES: Sequence[Mapping[str, Any]] = (
    {"path": "GROUND/chat.jsonl"},
    {"path": "GROUND/chat.jsonl", "type": "chat_template"},
    {"path": "GROUND/chat.jsonl", "type": "chat_template", "field_messages": "other"},
    {"path": "GROUND/instructions.jsonl", "type": "alpaca"},
    {"path": "GROUND/instructions.jsonl", "type": "completion"},
    {"path": "GROUND/instructions.jsonl", "type": "completion", "field": "body"},
    {"path": "GROUND/instructions.jsonl", "ds_type": "json", "type": "alpaca"},
    {"path": "GROUND/segments.jsonl", "type": "input_output"},
    {"path": "GROUND/parts", "data_files": ["a.jsonl", "b.jsonl"], "type": "chat_template"},
    {
        "path": "GROUND/instructions.jsonl",
        "type": {"field_instruction": "question", "field_output": "answer"},
    },
    {
        "path": "GROUND/instructions.jsonl",
        "type": {
            "field_system": "orders",
            "system_format": "<{system}>",
            "format": "{instruction} {input}: ",
            "no_input_format": "{instruction}: ",
        },
    },
)
"""Data sets that can be read."""

POOLS: dict[str, Sequence[Any]] = {
    "adapter": (
        {"lora_target_linear": True},
        {"lora_target_modules": ["q_proj", "v_proj"]},
        {"lora_target_modules": ".*(up|down)_proj"},
        {"lora_target_modules": "all-linear"},
    ),
    "lora_target_modules": (["q_proj"], ["up_proj", "k_proj"], ".*_proj", "all-linear"),
    "lora_modules_to_save": (["embed_tokens"], ["norm"], ["lm_head"], ["embed_tokens", "lm_head"]),
    "base_model_config": ("GROUND/base",),
    "model_type": ("AutoModelForCausalLM",),
    "overrides_of_model_config": ({"initializer_range": 0.3}, {"attention_dropout": 0.1}),
    "tokenizer_config": ("GROUND/base", "GROUND/tokenizer"),
    "tokenizer_type": ("AutoTokenizer", "PreTrainedTokenizerFast"),
    "special_tokens.bos_token": SPECIAL,
    "special_tokens.eos_token": SPECIAL,
    "special_tokens.pad_token": SPECIAL,
    "special_tokens.unk_token": SPECIAL,
    "special_tokens.additional_special_tokens": ([SPECIAL[0]], list(SPECIAL)),
    "chat_template": TEMPLATES,
    "chat_template_jinja": (JINJA,),
    "chat_template_kwargs": ({"enable_thinking": False}, {"mood": "joy"}),
    "eot_tokens": ([SPECIAL[2]], [SPECIAL[0], SPECIAL[2]]),
    "optimizer": list(registry("optimizers")),
    "optim_args": ({"amsgrad": True}, {"momentum": 0.9}, "betas=(0.9, 0.95)", {"eps": 1e-6}),
    "lr_scheduler": list(registry("schedules")),
    "lr_scheduler_kwargs": (
        {"num_cycles": 2},
        {"min_lr": 1e-4},
        {"min_lr_rate": 0.1},
        {"num_decay_steps": 1},
        {"power": 2.0, "lr_end": 1e-5},
        {"timescale": 10},
        {"pct_start": 0.5, "cycle_momentum": False},
        {"warmup_lr_rate": 0.1},
    ),
    "attn_implementation": catalog.ATTENTIONS,
    "dataset_prepared_path": ("prepared",),
    "bnb_config_kwargs": (
        {"bnb_4bit_quant_type": "fp4"},
        {"bnb_4bit_use_double_quant": False},
        {"llm_int8_threshold": 4.0},
    ),
    "datasets[].split": ("train", "train[:50%]", "train[2:]", "train[:3]+train[5:]"),
    "datasets[].field": ("text", "body"),
    "datasets[].field_messages": ("messages", "other"),
    "datasets[].field_tools": ("tools", "functions"),
    "datasets[].message_property_mappings": ({"role": "role", "content": "content"},),
    "datasets[].message_field_training": ("train",),
    "datasets[].message_field_training_detail": ("spans",),
    "datasets[].message_field_weight": ("weight",),
    "datasets[].field_system": ("system", "orders"),
    "datasets[].field_thinking": ("thoughts",),
    "datasets[].template_thinking_key": ("reasoning_content",),
    "datasets[].text_column": ("text", "body"),
    "datasets[].conversation": ("instruct", "chat", "chatml", "phi"),
    "datasets[].field_chosen": ("chosen",),
    "datasets[].field_rejected": ("rejected",),
    "datasets[].step_separator": ("\n",),
    "datasets[].roles": ({"assistant": ["assistant", "bot"]}, {"user": ["user", "human"]}),
    "datasets[].roles_to_train": (["assistant"], ["assistant", "user"]),
    "datasets[].chat_template": TEMPLATES,
    "datasets[].chat_template_jinja": (JINJA,),
}
"""Words for the keys whose type is text or free-form."""
