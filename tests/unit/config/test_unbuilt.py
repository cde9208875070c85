import csv
from pathlib import Path

import pytest

from tunesmith.config.flat import leaves
from tunesmith.config.legacy import REFUSED, left_out, legacy_keys, other_spellings
from tunesmith.config.legacy_data import ENTRY_KEYS
from tunesmith.config.read import load
from tunesmith.config.support import state_of
from tunesmith.config.unbuilt import RL_METHODS, unbuilt_keys
from tunesmith.errors import ConfigError

RIGHT = {
    "base_model": "m",
    "learning_rate": 1e-4,
    "micro_batch_size": 1,
    "datasets": [{"path": "a"}],
}


def problems(**keys):
    with pytest.raises(ConfigError) as caught:
        load(RIGHT | keys)
    return caught.value.problems


@pytest.mark.parametrize(("method", "capability"), RL_METHODS.items())
def test_a_method_that_is_not_built_is_named(method, capability):
    settings = {"ebft": {"mode": "structured"}} if method == "ebft" else {}
    (problem,) = problems(rl=method, **settings)
    assert (problem.code, problem.key) == ("not-built", "rl")
    assert capability in problem.message
    assert problem.edit == dict.fromkeys(["rl", *settings])


def test_an_unknown_method_is_told_from_one_that_is_not_built():
    (problem,) = problems(rl="dop")
    assert (problem.code, problem.fix) == ("out-of-range", "did you mean `dpo`?")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("wandb_project", None),
        ("wandb_project", ""),
        ("wandb_mode", "disabled"),
        ("use_wandb", False),
        ("fsdp", None),
        ("fsdp", []),
        ("deepspeed", False),
        ("rl", None),
        ("dp_shard_size", 1),
        ("early_stopping_patience", 0),
        ("peft_init_lora_weights", True),
        ("hub_model_id", None),
    ],
)
def test_off_values_pass_without_a_word(key, value):
    assert load(RIGHT | {key: value}).notices == []


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("peft_init_lora_weights", False, "not-built"),
        ("embedding_lr", 0, "not-built"),
        ("embedding_lr_scale", 0, "not-built"),
        ("fix_untrained_tokens", 0, "not-built"),
        ("peft_layers_to_transform", 0, "wrong-type"),
        ("dp_shard_size", 0, "out-of-range"),
        ("tensor_parallel_size", 0, "out-of-range"),
        ("dp_replicate_size", True, "wrong-type"),
    ],
)
def test_false_and_zero_that_mean_something_are_heard(key, value, code):
    assert [(item.key, item.code) for item in problems(**{key: value})] == [(key, code)]


BOTH = {"tokenizer_legacy", "dataloader_pin_memory"}
"""Keys of which neither true nor false is usual."""


@pytest.mark.parametrize(
    "key",
    [
        *("qgalore_proj_quant", "tiled_mlp_use_original_mlp", "swanlab_log_completions"),
        *("peft_autocast_adapter_dtype", "tokenizer_legacy", "dataloader_pin_memory"),
        *("include_tkps", "tokenizer_save_jinja_files"),
    ],
)
def test_false_where_true_is_usual_is_a_notice(key):
    (notice,) = load(RIGHT | {key: False}).notices
    assert f"{key} " in notice
    assert load(RIGHT | {key: None}).notices == []
    assert load(RIGHT | {key: True}).notices == [] or key in BOTH


def test_the_tables_know_each_default_that_is_not_none(reference):
    """So that false beside a default of true is heard."""
    table = reference / "reference" / "config-keys.tsv"
    with table.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    on = {row["path"] for row in rows if row["default"] == "true"} & set(unbuilt_keys())
    # Blocks and plugins of which the key itself says that they are wanted.
    by_themselves = {"dense_mixer", "nemo_gym_enabled", "use_swanlab"}
    parameters = {"generation_do_sample", "lm_eval_post_train"}
    assert len(on) > 8
    assert {key for key in on if unbuilt_keys()[key].off is not True} == by_themselves | parameters


@pytest.mark.parametrize(
    ("key", "value", "capability"),
    [
        ("wandb_project", "x", "Weights & Biases"),
        ("fsdp_config", {"state_dict_type": "FULL_STATE_DICT"}, "several devices"),
        ("tensor_parallel_size", 2, "several devices"),
        ("peft_use_dora", True, "kinds of LoRA"),
        ("unfrozen_parameters", ["lm_head"], "chosen parameters"),
        ("neftune_noise_alpha", 5, "losses"),
    ],
)
def test_on_values_are_not_built(key, value, capability):
    (problem,) = problems(**{key: value})
    assert (problem.code, problem.key) == ("not-built", key)
    assert capability in problem.message


def test_one_capability_is_one_problem_that_lists_its_keys():
    (problem,) = problems(wandb_name="n", wandb_project="p", wandb_watch="all")
    assert problem.key == "wandb_project"
    assert problem.fix == "take out `wandb_name`, `wandb_project`, `wandb_watch`"


def test_a_parameter_of_what_is_off_is_a_notice():
    (notice,) = load(RIGHT | {"wandb_name": "n"}).notices
    assert "wandb_name has no effect: Weights & Biases is not switched on" in notice


def test_no_key_is_built_unbuilt_and_old_at_once():
    assert not set(unbuilt_keys()) & set(leaves())
    assert not set(unbuilt_keys()) & legacy_keys()


def axolotl_paths(reference: Path) -> list[str]:
    table = reference / "reference" / "config-keys.tsv"
    with table.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row["path"].removeprefix("cloud:") for row in rows]


def states_of(flat: str) -> list[str]:
    """Every table that answers for a key: a block that is not built answers for all in it, and
    what is in an old list is what it is in today's.
    """
    old_list, _, inside = flat.partition("[].")
    if inside and old_list in other_spellings():
        return states_of(f"{other_spellings()[old_list][1]}[].{inside}")
    parts = flat.split(".")
    around = {".".join(parts[:end]).removesuffix("[]") for end in range(1, len(parts))} | {flat}
    listed, _, name = flat.rpartition("[].")
    of_entry = {"datasets", "test_datasets"}
    tables = {
        "read": flat in leaves(),
        "not built": bool(around & {*unbuilt_keys()}),
        "read another way": flat in other_spellings(),
        "left out": flat in left_out(),
        "refused": flat in REFUSED,
        "an entry's": listed in of_entry and name in ENTRY_KEYS,
    }
    return [state for state, answers in tables.items() if answers]


def test_every_key_of_axolotl_is_in_exactly_one_state(reference):
    paths = axolotl_paths(reference)
    assert len(paths) == 845
    wrong = {path: found for path in paths if len(found := states_of(path)) != 1}
    assert wrong == {}
    for path in paths:
        (state,) = states_of(path)
        answer = state_of(path)
        assert answer is not None
        in_an_old_list = path.partition("[].")[0] in other_spellings() and "[]." in path
        assert answer.state == state or state == "an entry's" or in_an_old_list


def test_every_key_of_axolotl_is_answered_when_it_is_on(reference):
    for path in axolotl_paths(reference):
        if "[]" in path or "." in path or ":" in path:
            continue
        try:
            load(RIGHT | {path: "surely-no-default"})
        except ConfigError as error:
            codes = {problem.code for problem in error.problems}
            assert "unknown-key" not in codes, path


@pytest.mark.parametrize(
    ("values", "key", "fix"),
    [
        ({"orpo_alpha": -0.1}, "orpo_alpha", "correct it, or take it out"),
        ({"kd_alpha": "x"}, "kd_alpha", "correct it, or take it out"),
        ({"context_parallel_size": -2}, "context_parallel_size", "correct it, or take it out"),
        ({"neftune_noise_alpha": -5}, "neftune_noise_alpha", "correct it, or take it out"),
        ({"wandb_project": 3}, "wandb_project", "put it in quotes: '3'"),
        ({"fsdp_version": 3}, "fsdp_version", "correct it, or take it out"),
        ({"hub_strategy": "evry_save"}, "hub_strategy", "did you mean `every_save`?"),
    ],
)
def test_a_wrong_value_is_one_problem_with_a_fix(values, key, fix):
    (problem,) = problems(**values)
    assert (problem.key, problem.fix) == (key, fix)
    assert problem.edit


def test_a_wrong_value_in_a_block_has_a_fix_too():
    found = {item.key: item for item in problems(fsdp_config={"offload_params": "maybe"})}
    assert found["fsdp_config.offload_params"].fix == "correct it, or take it out"
    assert found["fsdp_config"].code == "not-built"


def test_a_few_names_are_listed():
    (problem,) = problems(fsdp_version=3)
    assert problem.message == "must be `1` or `2`, not `3`"


@pytest.mark.parametrize(
    "off",
    [
        {"wandb_project": "x", "wandb_mode": "disabled"},
        {"wandb_project": "x", "use_wandb": False},
        {"mlflow_tracking_uri": "x", "use_mlflow": False},
        {"swanlab_project": "x", "swanlab_mode": "disabled"},
        {"use_comet": True, "comet_mode": "disabled"},
    ],
)
def test_what_is_switched_off_is_not_asked_for(off):
    (notice,) = load(RIGHT | off).notices
    assert "is switched off" in notice
    with pytest.raises(ConfigError):
        load(RIGHT | off, strict_keys=True)


def test_a_method_whose_rows_are_its_own_has_no_edit():
    datasets = [{"path": "a", "type": "chatml.intel"}]
    (problem,) = problems(rl="dpo", rl_beta=0.1, datasets=datasets)
    assert problem.edit == {}
    assert problem.fix == (
        "take out `rl`, `rl_beta`, and give `datasets` rows that hold an answer to learn"
    )


def test_a_method_does_not_silence_a_misspelt_type():
    found = problems(rl="dpo", datasets=[{"path": "a", "type": "chatml.intl"}])
    assert {item.key: item.fix for item in found}["datasets.0.type"] == (
        "did you mean `chatml.intel`?"
    )
    (problem,) = problems(rl="grpo", datasets=[{"path": "a", "type": "rewards.read_rows"}])
    assert problem.key == "rl"
