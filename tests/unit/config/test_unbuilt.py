import csv

import pytest

from tunesmith.config.flat import leaves
from tunesmith.config.legacy import legacy_keys
from tunesmith.config.read import load
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
    ("key", "value", "capability"),
    [
        ("wandb_project", "x", "Weights & Biases"),
        ("fsdp_config", {"state_dict_type": "FULL_STATE_DICT"}, "several devices"),
        ("tensor_parallel_size", 2, "several devices"),
        ("peft_use_dora", True, "kinds of LoRA"),
        ("unfrozen_parameters", ["lm_head"], "chosen parameters"),
        ("pretraining_dataset", [{"path": "c4"}], "pretraining"),
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


def test_every_key_of_axolotl_is_known(reference):
    table = reference / "reference" / "config-keys.tsv"
    with table.open(encoding="utf-8", newline="") as lines:
        paths = [
            row["path"] for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]
    assert len(paths) == 845
    known = {*leaves(), *unbuilt_keys(), *legacy_keys(), *ENTRY_LEGACY}
    unknown = [path for path in paths if not covered(path.removeprefix("cloud:"), known)]
    assert unknown == []


# Keys of a data set's entry that `legacy` answers for.
ENTRY_LEGACY = {
    f"{listed}[].{name}"
    for listed in ("datasets", "test_datasets")
    for name in (
        "preprocess_shards",
        "trust_remote_code",
        "conversation",
        "message_field_role",
        "message_field_content",
    )
}


def covered(path: str, known: set[str]) -> bool:
    """Whether the key, or a block around it that is not built as a whole, is known."""
    parts = path.split(".")
    outer = [".".join(parts[:end]) for end in range(1, len(parts))]
    blocks = {block.removesuffix("[]") for block in outer}
    return path in known or bool(blocks & set(unbuilt_keys()))


def test_every_key_of_axolotl_is_answered_when_it_is_on(reference):
    table = reference / "reference" / "config-keys.tsv"
    with table.open(encoding="utf-8", newline="") as lines:
        paths = [
            row["path"] for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]
    for path in paths:
        if "[]" in path or "." in path or ":" in path:
            continue
        try:
            load(RIGHT | {path: "surely-no-default"})
        except ConfigError as error:
            codes = {problem.code for problem in error.problems}
            assert "unknown-key" not in codes, path
