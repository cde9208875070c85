"""Keys of other tools, with values as people write them: every edit that is named is right."""

import pytest

from tests.unit.config.edits import edited
from tunesmith.config.flat import to_flat
from tunesmith.config.foreign import foreign
from tunesmith.config.read import load
from tunesmith.config.synonyms import synonyms
from tunesmith.errors import ConfigError

RIGHT = {
    "base_model": "m",
    "learning_rate": 1e-4,
    "micro_batch_size": 1,
    "datasets": [{"path": "a", "type": "alpaca"}],
}
LORA = {**RIGHT, "adapter": "lora", "lora_target_linear": True}
QLORA = {**LORA, "adapter": "qlora"}
NO_RATE = {name: value for name, value in RIGHT.items() if name != "learning_rate"}
HELD_OUT = {**RIGHT, "val_set_size": 0.1}

SAME = {}
"""The key asks for what is so anyway: it only goes out."""

NO_EDIT = None
"""No value of ours says the same: the fix is words alone."""

CASES = [
    (RIGHT, "train_on_responses_only", True, SAME),
    (RIGHT, "train_on_responses_only", False, {"train_on_inputs": True}),
    ({**RIGHT, "train_on_inputs": True}, "train_on_responses_only", True, NO_EDIT),
    (RIGHT, "completion_only_loss", True, SAME),
    (RIGHT, "completion_only_loss", False, {"train_on_inputs": True}),
    (RIGHT, "assistant_only_loss", True, SAME),
    (RIGHT, "mask_prompt", True, SAME),
    (RIGHT, "mask_prompt", False, {"train_on_inputs": True}),
    (RIGHT, "train_on_prompt", True, {"train_on_inputs": True}),
    (RIGHT, "min_lr", 1e-6, {"cosine_min_lr_ratio": 0.01}),
    (RIGHT, "min_lr", 1e-3, NO_EDIT),
    (RIGHT, "min_lr_ratio", 0.1, {"cosine_min_lr_ratio": 0.1}),
    (RIGHT, "torch_dtype", "bfloat16", {"bf16": True}),
    (RIGHT, "torch_dtype", "torch.float16", {"fp16": True}),
    (RIGHT, "dtype", "float16", {"fp16": True}),
    (RIGHT, "dtype", "float32", {"bf16": False}),
    (RIGHT, "dtype", "auto", {"bf16": "auto"}),
    (RIGHT, "mixed_precision", "no", {"bf16": False}),
    (RIGHT, "mixed_precision", "fp8", NO_EDIT),
    (RIGHT, "precision", "bf16-mixed", {"bf16": True}),
    ({**RIGHT, "bf16": True}, "dtype", "float16", NO_EDIT),
    (RIGHT, "report_to", "wandb", NO_EDIT),
    (RIGHT, "report_to", ["tensorboard"], NO_EDIT),
    (RIGHT, "report_to", "none", SAME),
    (QLORA, "quantization_bit", 4, {"load_in_4bit": True}),
    (LORA, "quantization_bit", 8, {"load_in_8bit": True}),
    (LORA, "quantization_bit", 2, NO_EDIT),
    (LORA, "use_peft", True, SAME),
    (RIGHT, "use_peft", False, SAME),
    ({**RIGHT, "lora_target_linear": True}, "use_peft", True, {"adapter": "lora"}),
    ({**RIGHT, "lora_target_linear": True}, "lora", True, {"adapter": "lora"}),
    (LORA, "use_peft", False, NO_EDIT),
    (
        {**RIGHT, "lora_target_linear": True},
        "qlora",
        True,
        {"adapter": "qlora", "load_in_4bit": True},
    ),
    (RIGHT, "full_finetuning", True, SAME),
    (LORA, "full_finetuning", True, NO_EDIT),
    (RIGHT, "finetuning_type", "full", SAME),
    ({**RIGHT, "lora_target_linear": True}, "finetuning_type", "lora", {"adapter": "lora"}),
    ({**RIGHT, "lora_target_linear": True}, "peft_type", "LORA", {"adapter": "lora"}),
    (RIGHT, "peft_type", "PREFIX_TUNING", NO_EDIT),
    (RIGHT, "lora_config", {"r": 8, "lora_alpha": 16}, NO_EDIT),
    (RIGHT, "peft_config", {"r": 8}, NO_EDIT),
    (HELD_OUT, "do_eval", True, NO_EDIT),
    (HELD_OUT, "do_eval", False, SAME),
    (RIGHT, "push_to_hub", True, NO_EDIT),
    (RIGHT, "push_to_hub", False, SAME),
    (RIGHT, "betas", [0.9, 0.95], {"adam_beta1": 0.9, "adam_beta2": 0.95}),
    (RIGHT, "betas", [0.9, 1.5], NO_EDIT),
    (RIGHT, "stage", "sft", SAME),
    (RIGHT, "stage", "dpo", NO_EDIT),
    (RIGHT, "stage", "pt", NO_EDIT),
    (RIGHT, "pref_loss", "sigmoid", NO_EDIT),
    (RIGHT, "logging_strategy", "steps", SAME),
    (RIGHT, "logging_strategy", "epoch", NO_EDIT),
    (RIGHT, "logging_first_step", True, NO_EDIT),
    (RIGHT, "warmup", 0.1, {"warmup_ratio": 0.1}),
    (RIGHT, "warmup", 10, {"warmup_steps": 10}),
    (RIGHT, "warmup", True, NO_EDIT),
    (RIGHT, "num_warmup_steps", 10, {"warmup_steps": 10}),
    (RIGHT, "warmup_proportion", 0.1, {"warmup_ratio": 0.1}),
    (RIGHT, "max_train_steps", 100, {"max_steps": 100}),
    (RIGHT, "max_train_steps", -1, SAME),
    (RIGHT, "num_train_epochs", 3.0, {"num_epochs": 3.0}),
    (RIGHT, "lr_scheduler_type", "cosine", {"lr_scheduler": "cosine"}),
    (RIGHT, "lr_scheduler_type", "reduce_on_sunday", NO_EDIT),
    (RIGHT, "optim", "adamw_torch", {"optimizer": "adamw_torch"}),
    (RIGHT, "optim", "adamw_apex", NO_EDIT),
    (RIGHT, "adafactor", True, NO_EDIT),
    (RIGHT, "gradient_clip_val", 1.0, {"max_grad_norm": 1.0}),
    (RIGHT, "wd", 0.01, {"weight_decay": 0.01}),
    (RIGHT, "per_device_train_batch_size", 4, NO_EDIT),
    (
        {**RIGHT, "micro_batch_size": None},
        "per_device_train_batch_size",
        4,
        {"micro_batch_size": 4},
    ),
    (RIGHT, "per_device_train_batch_size", 1, SAME),
    (RIGHT, "global_batch_size", 8, {"batch_size": 8}),
    (RIGHT, "max_seq_length", 2048, {"sequence_len": 2048}),
    (RIGHT, "cutoff_len", 1024, {"sequence_len": 1024}),
    (RIGHT, "max_length", None, SAME),
    (RIGHT, "packing", True, {"sample_packing": True}),
    (RIGHT, "packing", "yes please", NO_EDIT),
    (RIGHT, "template", "llama3", {"chat_template": "llama3"}),
    (RIGHT, "template", "a_style_of_theirs", NO_EDIT),
    (RIGHT, "flash_attn", "fa2", SAME),
    (RIGHT, "flash_attn", "sdpa", {"attn_implementation": "sdpa"}),
    (RIGHT, "flash_attn", "disabled", {"attn_implementation": "eager"}),
    (RIGHT, "flash_attn", True, SAME),
    (RIGHT, "use_gradient_checkpointing", True, {"gradient_checkpointing": True}),
    (RIGHT, "use_gradient_checkpointing", "unsloth", NO_EDIT),
    (RIGHT, "activation_checkpointing", False, {"gradient_checkpointing": False}),
    (RIGHT, "resume", True, {"auto_resume_from_checkpoints": True}),
    (RIGHT, "resume", "out/checkpoint-9", {"resume_from_checkpoint": "out/checkpoint-9"}),
    (LORA, "rank", 16, {"lora_r": 16}),
    (LORA, "alpha", 32, {"lora_alpha": 32}),
    (LORA, "use_rslora", True, {"peft_use_rslora": True}),
    (LORA, "use_dora", False, SAME),
    (LORA, "use_dora", True, NO_EDIT),
    ({**RIGHT, "adapter": "lora"}, "lora_target", "all", {"lora_target_linear": True}),
    (
        {**RIGHT, "adapter": "lora"},
        "target_modules",
        "q_proj,v_proj",
        {"lora_target_modules": ["q_proj", "v_proj"]},
    ),
    (
        {**RIGHT, "adapter": "lora"},
        "target_modules",
        ["q_proj"],
        {"lora_target_modules": ["q_proj"]},
    ),
    (LORA, "additional_target", "lm_head", {"lora_modules_to_save": ["lm_head"]}),
    ({**RIGHT, "base_model": None}, "model_name_or_path", "org/m", {"base_model": "org/m"}),
    (NO_RATE, "lr", 2e-5, {"learning_rate": 2e-5}),
    (RIGHT, "lr", 2e-5, NO_EDIT),
    (RIGHT, "validation_split", 0.1, {"val_set_size": 0.1}),
    (RIGHT, "validation_split", "validation", NO_EDIT),
    (HELD_OUT, "eval_freq", 50, {"eval_steps": 50}),
    (HELD_OUT, "evaluate_during_training", True, NO_EDIT),
    (HELD_OUT, "eval_on_start", True, {"eval_first": True}),
    (RIGHT, "save_every", 100, {"save_steps": 100}),
    (RIGHT, "log_interval", 5, {"logging_steps": 5}),
    (RIGHT, "random_state", 3407, {"seed": 3407}),
    (RIGHT, "data_seed", 7, NO_EDIT),
    (RIGHT, "num_workers", 4, {"dataloader_num_workers": 4}),
    (RIGHT, "preprocessing_num_workers", 4, {"dataset_num_proc": 4}),
    (RIGHT, "compile", True, {"torch_compile": True}),
    (RIGHT, "run_name", "first", NO_EDIT),
    (RIGHT, "adapter_name_or_path", "out", NO_EDIT),
    (RIGHT, "beta", 0.1, NO_EDIT),
    (RIGHT, "train_file", "rows.jsonl", NO_EDIT),
    (RIGHT, "dataset_text_field", "text", NO_EDIT),
    (RIGHT, "dataset_dir", "data", NO_EDIT),
    (RIGHT, "eval_accumulation_steps", 4, NO_EDIT),
]


def problem_of(values, name):
    with pytest.raises(ConfigError) as caught:
        load(values)
    return next(p for p in caught.value.problems if p.key == name)


@pytest.mark.parametrize(
    ("around", "name", "value", "same"), CASES, ids=[f"{c[1]}-{c[2]}" for c in CASES]
)
def test_an_edit_is_valid_and_means_the_same(around, name, value, same):
    around = {key: item for key, item in around.items() if item is not None}
    problem = problem_of({**around, name: value}, name)
    assert (problem.code, bool(problem.fix)) == ("unknown-key", True)
    if same is NO_EDIT:
        assert problem.edit == {}
        return
    assert problem.edit == {**same, name: None}
    wanted = load({**around, **same}).config
    assert to_flat(load(edited({**around, name: value}, problem.edit)).config) == to_flat(wanted)


@pytest.mark.parametrize(
    ("name", "value", "same"),
    [
        ("mask_prompt", True, SAME),
        ("mask_prompt", False, NO_EDIT),
        (
            "tags",
            {"role_tag": "from", "content_tag": "value"},
            {"message_property_mappings": {"role": "from", "content": "value"}},
        ),
        ("tags", {"role_tag": "from", "user_tag": "human"}, NO_EDIT),
        ("columns", {"prompt": "instruction"}, NO_EDIT),
        ("messages", "turns", {"field_messages": "turns"}),
        ("subset", "main", {"name": "main"}),
        ("files", ["a.json"], {"data_files": ["a.json"]}),
    ],
)
def test_the_same_in_an_entry(name, value, same):
    entry = {"path": "a", "type": "chat_template"}
    problem = problem_of({**RIGHT, "datasets": [{**entry, name: value}]}, f"datasets.0.{name}")
    if same is NO_EDIT:
        assert problem.edit == {}
        return
    wanted = load({**RIGHT, "datasets": [{**entry, **same}]}).config
    mended = edited({**RIGHT, "datasets": [{**entry, name: value}]}, problem.edit)
    assert to_flat(load(mended).config) == to_flat(wanted)


def test_the_value_of_a_far_word_is_not_carried_over():
    problem = problem_of({**RIGHT, "lerning_ratio": 0.5}, "lerning_ratio")
    assert "did you mean" in problem.fix
    assert problem.edit == {}


def test_a_converted_value_is_in_the_fix():
    problem = problem_of({**RIGHT, "min_lr": 1e-6}, "min_lr")
    assert problem.fix == "use `cosine_min_lr_ratio: 0.01` and take `min_lr` out"
    problem = problem_of({**RIGHT, "packing": "yes please"}, "packing")
    assert problem.fix == "did you mean `sample_packing`? It takes true or false"
    problem = problem_of({**RIGHT, "pretrain_dtype": 1, "dtype": "int4"}, "dtype")
    assert problem.fix == (
        "did you mean `bf16`? `bf16: true`, `fp16: true`, or `bf16: false` for fp32"
    )


def test_what_is_read_in_another_way_is_a_word_of_other_tools():
    words = [("", "min_lr"), ("", "betas"), ("", "dtype"), ("datasets[]", "tags")]
    assert all(foreign(*each) is not None for each in words)
    assert foreign("", "learning_rate") is None
    read = [word for word in synonyms() if foreign(*word) is not None]
    assert len(read) > 50
