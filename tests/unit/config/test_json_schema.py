import json

import pytest
from jsonschema import Draft202012Validator

from tunesmith.config.flat import leaves, top_leaves
from tunesmith.config.json_schema import json_schema
from tunesmith.config.read import load

RIGHT = {
    "base_model": "m",
    "learning_rate": 1e-4,
    "micro_batch_size": 1,
    "datasets": [{"path": "a", "type": "alpaca"}],
}


@pytest.fixture(scope="module")
def validator():
    return Draft202012Validator(json_schema())


def wrong(validator, **keys) -> list[str]:
    return sorted(
        ".".join(map(str, error.absolute_path)) for error in validator.iter_errors(RIGHT | keys)
    )


def test_it_is_a_schema_of_its_dialect(validator):
    Draft202012Validator.check_schema(json_schema())
    assert json_schema()["$schema"] == validator.META_SCHEMA["$id"]


def test_the_schema_has_every_key_with_its_meaning():
    schema = json_schema()
    properties = {name for name in schema["properties"] if name in leaves()}
    assert properties == {name for name in top_leaves() if "." not in name}
    assert set(schema["required"]) == {name for name, leaf in top_leaves().items() if leaf.required}
    assert schema["additionalProperties"] is False
    for name in properties:
        assert schema["properties"][name]["description"] == leaves()[name].doc
    json.dumps(schema)


def test_the_schema_holds_bounds_blocks_and_null():
    schema = json_schema()
    rank = schema["properties"]["lora_r"]
    assert rank["anyOf"][0]["minimum"] == 1
    assert {"type": "null"} in rank["anyOf"]
    assert {"type": "null"} not in schema["properties"]["learning_rate"].get("anyOf", [])
    entry = schema["$defs"]["DatasetEntry"]
    assert entry["required"] == ["path"]
    assert set(entry["properties"]) >= {
        name.removeprefix("datasets[].")
        for name, leaf in leaves().items()
        if leaf.parent == "datasets"
    }


def test_every_reference_of_the_schema_is_defined():
    schema = json_schema()
    used = {part.split('"')[0] for part in json.dumps(schema).split('"#/$defs/')[1:]}
    assert used
    assert used <= set(schema["$defs"])


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"$schema": "tunesmith.json"},
        {"lora_r": None},
        {"bf16": "auto"},
        {"bf16": "yes"},
        {"optimizer": "adamw_8bit"},
        {"optimizer": "mine:Adam"},
        {"datasets": "a.jsonl"},
        {"datasets": {"path": "a"}},
        {"datasets": ["a", {"path": "b", "message_field_role": "who"}]},
        {"evaluation_strategy": "steps"},
        {"flash_attention": True},
        {"deepspeed": None},
        {"rope_scaling": None},
        {"special_tokens": {"pad_token": "x"}},
    ],
)
def test_right_keys_pass(validator, keys):
    assert wrong(validator, **keys) == []


@pytest.mark.parametrize(
    ("keys", "places"),
    [
        ({"lr": 1}, [""]),
        ({"learning-rate": 1}, [""]),
        ({"learning_rate": "fast"}, ["learning_rate"]),
        ({"learning_rate": None}, ["learning_rate"]),
        ({"lora_r": 0}, ["lora_r"]),
        ({"lora_r": 2.5}, ["lora_r"]),
        ({"lora_dropout": 1}, ["lora_dropout"]),
        ({"adapter": "lorra"}, ["adapter"]),
        ({"eval_strategy": "never"}, ["eval_strategy"]),
        ({"evaluation_strategy": "never"}, ["evaluation_strategy"]),
        ({"bf16": "maybe"}, ["bf16"]),
        ({"datasets": [{"path": "a", "typ": "alpaca"}]}, ["datasets"]),
        ({"datasets": [{"type": "alpaca"}]}, ["datasets"]),
        ({"special_tokens": {"pad": "x"}}, ["special_tokens"]),
        ({"rope_scaling": {"type": "linear"}}, ["rope_scaling"]),
    ],
)
def test_wrong_keys_and_values_fail_at_their_place(validator, keys, places):
    assert wrong(validator, **keys) == places


def test_old_keys_are_deprecated_and_say_what_is_read_today():
    properties = json_schema()["properties"]
    assert properties["evaluation_strategy"]["deprecated"] is True
    assert "`eval_strategy`" in properties["evaluation_strategy"]["description"]
    assert properties["local_rank"]["deprecated"] is True
    assert "deprecated" not in properties["learning_rate"]
    entry = json_schema()["$defs"]["DatasetEntry"]["properties"]
    assert entry["message_field_role"]["deprecated"] is True


def test_names_of_tables_are_offered():
    options = json_schema()["properties"]["optimizer"]["anyOf"]
    assert "adamw_torch" in options[0]["enum"]


def test_the_key_for_editors_is_read_in_silence():
    assert load(RIGHT | {"$schema": "tunesmith.json"}).notices == []


@pytest.mark.parametrize(
    ("values", "valid"),
    [
        ({"rl": "dpo"}, True),
        ({"rl": "dpp"}, False),
        ({"trl": {"vllm_mode": "colocate", "beta": 0.1, "max_completion_length": "7"}}, True),
        ({"trl": {"vllm_mod": "colocate"}}, False),
        ({"trl": {"beta": -1}}, False),
        ({"trl": {"generation_kwargs": {"free": 1}}}, True),
        ({"trl": None}, True),
        ({"fsdp_config": {"fsdp_offload_params": True, "limit_all_gathers": True}}, True),
        ({"fsdp_config": {"offload": True}}, False),
        ({"fsdp_version": 2}, True),
        ({"fsdp_version": 3}, False),
        ({"lr_groups": [{"name": "a", "modules": ["b"], "lr": 0.1}]}, True),
        ({"lr_groups": [{"nam": "a"}]}, False),
        ({"wandb_project": 3}, False),
        ({"kd_alpha": 1.5}, False),
        ({"gradio_share": "on"}, True),
        ({"gradio_share": 3}, False),
        ({"deepspeed": "zero.json"}, True),
        ({"dpo_loss_type": ["sigmoid", "sft"]}, True),
        ({"dpo_loss_type": ["sigmoidal"]}, False),
    ],
)
def test_keys_that_are_not_built_have_their_types_too(values, valid):
    right = {"base_model": "m", "learning_rate": 1e-4, "micro_batch_size": 1}
    assert Draft202012Validator(json_schema()).is_valid(right | values) is valid
