"""Every rule across sections: a config that breaks it, and the same one mended as the fix says."""

import pytest

from tunesmith.config.checks.precision import MACHINE_RULES
from tunesmith.config.checks.rules import RULES, broken_rules, deferred_checks, machine_problems
from tunesmith.config.environment import MACHINES
from tunesmith.config.flat import from_flat, top_leaves

RIGHT = {
    "base_model": "m",
    "learning_rate": 1e-4,
    "micro_batch_size": 2,
    "datasets": [{"path": "a", "type": "alpaca"}],
}
CHAT = [{"path": "a", "type": "chat_template"}]
LORA = {"adapter": "lora", "lora_target_linear": True}
OUT = object()  # the key is taken out

# What breaks it, code and key of the problem, what mends it.
CASES = [
    ({"micro_batch_size": OUT}, "missing", "micro_batch_size", {"micro_batch_size": 1}),
    (
        {"micro_batch_size": OUT, "gradient_accumulation_steps": 4},
        "missing",
        "micro_batch_size",
        {"micro_batch_size": 1},
    ),
    (
        {"micro_batch_size": OUT, "batch_size": 8},
        "missing",
        "micro_batch_size",
        {"gradient_accumulation_steps": 2},
    ),
    ({"batch_size": 7}, "conflict", "batch_size", {"batch_size": 6}),
    ({"batch_size": 1}, "conflict", "batch_size", {"batch_size": 2}),
    (
        {"micro_batch_size": OUT, "batch_size": 7, "gradient_accumulation_steps": 2},
        "conflict",
        "batch_size",
        {"batch_size": 8},
    ),
    (
        {"batch_size": 6, "gradient_accumulation_steps": 2},
        "conflict",
        "batch_size",
        {"batch_size": OUT},
    ),
    ({"warmup_steps": 3, "warmup_ratio": 0.1}, "conflict", "warmup_ratio", {"warmup_ratio": OUT}),
    ({"warmup_steps": 10, "max_steps": 10}, "conflict", "warmup_steps", {"warmup_steps": 1}),
    (
        {"save_steps": 5, "saves_per_epoch": 2},
        "conflict",
        "saves_per_epoch",
        {"saves_per_epoch": OUT},
    ),
    ({"save_steps": 5, "save_strategy": "epoch"}, "conflict", "save_steps", {"save_strategy": OUT}),
    (
        {"saves_per_epoch": 5, "save_strategy": "no"},
        "conflict",
        "saves_per_epoch",
        {"save_strategy": OUT},
    ),
    ({"save_steps": 2.5}, "out-of-range", "save_steps", {"save_steps": 2}),
    (
        {"eval_steps": 5, "evals_per_epoch": 2, "val_set_size": 0.1},
        "conflict",
        "evals_per_epoch",
        {"eval_steps": OUT},
    ),
    ({"eval_steps": 5}, "conflict", "eval_steps", {"val_set_size": 0.05}),
    ({"eval_strategy": "epoch"}, "conflict", "eval_strategy", {"eval_strategy": "no"}),
    ({"eval_first": True}, "conflict", "eval_first", {"eval_first": False}),
    ({"datasets": OUT}, "missing", "datasets", {"datasets": CHAT}),
    ({"datasets": []}, "missing", "datasets", {"datasets": CHAT}),
    ({"datasets": [{"path": " "}]}, "out-of-range", "datasets.0.path", {"datasets": CHAT}),
    (
        {"val_set_size": 0.1, "test_datasets": CHAT},
        "conflict",
        "val_set_size",
        {"val_set_size": OUT},
    ),
    ({"val_set_size": 1.5}, "out-of-range", "val_set_size", {"val_set_size": 1}),
    ({"chat_template": "jinja"}, "missing", "chat_template_jinja", {"chat_template_jinja": "x"}),
    (
        {"chat_template_jinja": "x", "chat_template": "chatml"},
        "conflict",
        "chat_template_jinja",
        {"chat_template": "jinja"},
    ),
    (
        {"datasets": [{"path": "a", "chat_template": "jinja"}]},
        "missing",
        "datasets.0.chat_template_jinja",
        {"chat_template_jinja": "x"},
    ),
    (
        {"datasets": [{"path": "a", "type": "alpaca", "field": "x"}]},
        "conflict",
        "datasets.0.field",
        {"datasets": [{"path": "a", "type": "completion", "field": "x"}]},
    ),
    (
        {"datasets": [{"path": "a", "type": "alpaca", "roles_to_train": ["user"]}]},
        "conflict",
        "datasets.0.roles_to_train",
        {"datasets": [{"path": "a", "type": "chat_template", "roles_to_train": ["user"]}]},
    ),
    ({"sequence_len": 8, "min_sample_len": 9}, "conflict", "min_sample_len", {"min_sample_len": 8}),
    (
        {**LORA, "load_in_4bit": True, "load_in_8bit": True},
        "conflict",
        "load_in_8bit",
        {"load_in_8bit": False},
    ),
    ({"load_in_4bit": True}, "conflict", "load_in_4bit", {**LORA, "adapter": "qlora"}),
    ({"load_in_8bit": True}, "conflict", "load_in_8bit", LORA),
    ({**LORA, "adapter": "qlora"}, "missing", "load_in_4bit", {"load_in_4bit": True}),
    (
        {**LORA, "adapter": "qlora", "load_in_8bit": True},
        "conflict",
        "load_in_8bit",
        {"adapter": "lora"},
    ),
    ({"adapter": "lora"}, "missing", "lora_target_linear", {"lora_target_modules": ["q_proj"]}),
    (
        {"adapter": "lora", "lora_target_modules": []},
        "missing",
        "lora_target_linear",
        {"lora_target_linear": True},
    ),
    (
        {"adapter": "lora", "lora_target_modules": "(q"},
        "out-of-range",
        "lora_target_modules",
        {"lora_target_modules": "(q|k)_proj"},
    ),
    ({"bf16": True, "fp16": True}, "conflict", "fp16", {"bf16": "auto"}),
    ({"optimizer": "adamw_tortch"}, "out-of-range", "optimizer", {"optimizer": "adamw_torch"}),
    ({"optimizer": "muon"}, "not-built", "optimizer", {"optimizer": "sgd"}),
    ({"lr_scheduler": "cosin"}, "out-of-range", "lr_scheduler", {"lr_scheduler": "cosine"}),
    (
        {"lr_scheduler": "reduce_lr_on_plateau"},
        "not-built",
        "lr_scheduler",
        {"lr_scheduler": "linear"},
    ),
    (
        {"datasets": [{"path": "a", "type": "alpacca"}]},
        "out-of-range",
        "datasets.0.type",
        {"datasets": CHAT},
    ),
    (
        {"datasets": [{"path": "a", "type": "alpaca_w_system.load_open_orca"}]},
        "not-built",
        "datasets.0.type",
        {"datasets": CHAT},
    ),
    (
        {"datasets": [{"path": "a", "type": "alpaca:phi"}]},
        "not-built",
        "datasets.0.type",
        {"datasets": CHAT},
    ),
    ({"chat_template": "chatlm"}, "out-of-range", "chat_template", {"chat_template": "chatml"}),
    (
        {"chat_template": "tokenizer_default_fallback_pixtral"},
        "not-built",
        "chat_template",
        {"chat_template": "tokenizer_default_fallback_chatml"},
    ),
    (
        {"chat_template": "{{ messages }}"},
        "out-of-range",
        "chat_template",
        {"chat_template": "tokenizer_default"},
    ),
    (
        {"attn_implementation": "flash"},
        "out-of-range",
        "attn_implementation",
        {"attn_implementation": "flash_attention_2"},
    ),
    (
        {"attn_implementation": "sage"},
        "not-built",
        "attn_implementation",
        {"attn_implementation": "sdpa"},
    ),
    (
        {"attn_implementation": "someone/kernel"},
        "refused",
        "attn_implementation",
        {"attn_implementation": OUT},
    ),
]


def config(*changes):
    flat = dict(RIGHT)
    for change in changes:
        flat.update(change)
    return from_flat({key: value for key, value in flat.items() if value is not OUT})


def test_the_config_that_the_cases_begin_with_is_right():
    assert broken_rules(config()) == []


@pytest.mark.parametrize(("broken", "code", "key", "mended"), CASES)
def test_a_broken_rule_is_one_problem_and_its_fix_mends_it(broken, code, key, mended):
    (problem,) = broken_rules(config(broken))
    assert (problem.code, problem.key) == (code, key)
    assert problem.message
    assert problem.fix
    assert broken_rules(config(broken, mended)) == []


def test_every_rule_is_broken_by_some_case():
    silent = [
        rule.check.__name__
        for rule in RULES
        if not any([*rule.check(config(broken))] for broken, *_ in CASES)
    ]
    assert silent == []


def test_rules_name_keys_that_exist():
    for rule in (*RULES, *MACHINE_RULES):
        assert set(rule.keys) <= set(top_leaves())


@pytest.mark.parametrize(("broken", "code", "key", "mended"), CASES)
def test_the_key_of_a_problem_is_among_the_keys_of_its_rule(broken, code, key, mended):
    assert broken_rules(config(broken), skip={key.split(".")[0]}) == []


MACHINE_CASES = [
    ({"bf16": True}, "v100", "h100"),
    ({"fp16": True}, "cpu", "t4"),
    ({"tf32": True}, "cpu", "rtx4090"),
    ({"attn_implementation": "flash_attention_2"}, "t4", "a100-80"),
    ({"optimizer": "paged_adamw_8bit"}, "cpu", "l4"),
]


@pytest.mark.parametrize(("keys", "wrong", "right"), MACHINE_CASES)
def test_a_machine_refuses_what_it_cannot_do(keys, wrong, right):
    asked = config(keys)
    (problem,) = machine_problems(asked, MACHINES[wrong])
    assert problem.key in keys
    assert problem.fix
    assert machine_problems(asked, MACHINES[right]) == []
    assert len(deferred_checks(asked)) == 1
    assert machine_problems(asked, MACHINES[wrong], skip=set(keys)) == []


def test_bf16_on_a_cpu_is_no_problem():
    assert machine_problems(config({"bf16": True}), MACHINES["cpu"]) == []


def test_nothing_is_deferred_where_the_machine_decides():
    assert deferred_checks(config()) == []
