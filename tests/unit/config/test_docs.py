import json

import pytest

from tunesmith.config.docs import explain, json_schema, keys_like, markdown, reference, written
from tunesmith.config.flat import leaves, top_leaves
from tunesmith.config.read import load
from tunesmith.config.schema import RunConfig
from tunesmith.errors import ConfigError

RIGHT = {
    "base_model": "m",
    "learning_rate": 1e-4,
    "micro_batch_size": 1,
    "datasets": [{"path": "a", "roles": {"user": ["human"]}}],
    "lora_r": 4,
}


def test_the_schema_has_every_key_with_its_meaning():
    schema = json_schema()
    assert set(schema["properties"]) == set(top_leaves())
    assert set(schema["required"]) == {"base_model", "learning_rate"}
    assert schema["additionalProperties"] is False
    assert all(item["description"] for item in schema["properties"].values())
    json.dumps(schema)


def test_the_schema_holds_bounds_blocks_and_null():
    schema = json_schema()
    rank = schema["properties"]["lora_r"]
    assert rank["anyOf"][0]["minimum"] == 1
    assert {"type": "null"} in rank["anyOf"]
    assert {"type": "null"} not in schema["properties"]["learning_rate"].get("anyOf", [])
    entry = schema["$defs"]["DatasetEntry"]
    assert entry["required"] == ["path"]
    assert set(entry["properties"]) == {
        name.removeprefix("datasets[].")
        for name, leaf in leaves().items()
        if leaf.parent == "datasets"
    }


def test_every_reference_of_the_schema_is_defined():
    schema = json_schema()
    used = {part.split('"')[0] for part in json.dumps(schema).split('"#/$defs/')[1:]}
    assert used
    assert used <= set(schema["$defs"])


def test_the_reference_has_a_row_for_every_key():
    rows = [row for rows in reference().values() for row in rows]
    assert [row.key for row in rows] == list(leaves())
    assert all(row.type and row.default and row.meaning for row in rows)


@pytest.mark.parametrize("section", list(RunConfig.model_fields))
def test_a_markdown_page_is_one_table(section):
    lines = markdown(section).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(reference()[section])
    assert {line.replace("\\|", "").count("|") for line in table} == {5}


def test_explaining_a_key_says_type_bounds_and_default():
    found = explain("lora-r")
    assert (found.key, found.default) == ("lora_r", "8")
    assert found.type.startswith("a whole number, 1 or more")
    assert "tunesmith.models.adapters" in found.readers
    assert found.needs == "adapter is not set"
    assert (found.value, found.source, found.effect) == ("", "", "")


def test_explaining_with_a_config_says_the_value_who_set_it_and_whether_it_matters():
    dead = explain("lora_r", load(RIGHT))
    assert (dead.value, dead.source) == ("4", "python")
    assert dead.effect == "has no effect here: adapter is not set"
    live = explain("lora_r", load(RIGHT, {"adapter": "lora", "lora_target_linear": True}))
    assert live.effect == "read in this config"
    assert explain("seed", load(RIGHT)).source == "default"


def test_keys_of_entries_are_explained_by_position_or_without():
    loaded = load(RIGHT)
    assert explain("datasets.0.path", loaded).value == "a"
    assert explain("datasets.0.roles", loaded).value == '{"user": ["human"]}'
    assert explain("datasets.path").key == "datasets[].path"
    assert explain("special_tokens.pad_token", loaded).value == "null"


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("lr", "did you mean `learning_rate`?"),
        ("datasets.0.typ", "did you mean `datasets[].type`?"),
        ("xyzzy", "`tunesmith config keys` lists all"),
        ("rl", "leave it out"),
    ],
)
def test_an_unknown_key_is_a_config_error(key, hint):
    with pytest.raises(ConfigError) as caught:
        explain(key)
    assert caught.value.hint == hint


def test_keys_are_found_by_name_and_by_meaning():
    assert {row.key for row in keys_like("warmup")} == {"warmup_steps", "warmup_ratio"}
    assert "lora_dropout" in {row.key for row in keys_like("dropout")}
    assert {row.key for row in keys_like("BETA")} >= {"adam_beta1", "adam_beta2"}
    assert len(keys_like()) == len(leaves())


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), ("", '""'), ("a", "a"), (1e-4, "0.0001"), ((1,), "[1]")],
)
def test_values_are_written_as_yaml(value, text):
    assert written(value) == text
