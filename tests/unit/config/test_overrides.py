import pytest

from tunesmith.config.flat import leaves, to_flat
from tunesmith.config.overrides import Override, parse_value
from tunesmith.config.read import load
from tunesmith.errors import ConfigError

RIGHT = {
    "base_model": "m",
    "learning_rate": 1e-4,
    "micro_batch_size": 1,
    "datasets": [{"path": "a", "type": "alpaca"}, {"path": "b", "type": "alpaca"}],
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("3", 3),
        ("null", None),
        ("true", True),
        ("[q_proj, v_proj]", ["q_proj", "v_proj"]),
        ("{role: from}", {"role": "from"}),
        ("[not closed", "[not closed"),
        ("a: b", "a: b"),
        ("-1", -1),
    ],
)
def test_values_are_yaml_scalars_or_bracketed(text, value):
    assert parse_value(text) == value


def test_an_override_wins_and_is_remembered():
    loaded = load(RIGHT, [Override("learning_rate", 1e-5), Override("datasets.1.path", "c")])
    assert loaded.config.optim.learning_rate == 1e-5
    assert [entry.path for entry in loaded.config.data.datasets] == ["a", "c"]
    assert str(loaded.sources["learning_rate"]) == "command line"
    assert str(loaded.sources["datasets.1.path"]) == "command line"
    assert str(loaded.sources["seed"]) == "default"


def test_the_last_of_two_overrides_wins():
    assert load(RIGHT, [Override("seed", 1), Override("seed", 2)]).config.batch.seed == 2


def test_null_takes_a_key_out():
    assert load(RIGHT | {"max_steps": 3}, {"max_steps": None}).config.batch.max_steps is None


def test_blocks_and_entries_are_made_where_they_are_missing():
    loaded = load(RIGHT, {"special_tokens.pad_token": "<pad>", "test_datasets.0.path": "t"})
    assert loaded.config.tokenizer.special_tokens.pad_token == "<pad>"
    assert loaded.config.data.test_datasets[0].path == "t"


def test_a_wrong_override_is_a_problem_of_the_command_line():
    with pytest.raises(ConfigError) as caught:
        load(RIGHT, [Override("lora_r", 0), Override("lerning_rate", 1)])
    found = {problem.key: (problem.code, problem.file) for problem in caught.value.problems}
    assert found == {
        "lora_r": ("out-of-range", "command line"),
        "lerning_rate": ("unknown-key", "command line"),
    }


@pytest.mark.parametrize("key", ["datasets.7.path", "datasets.x.path", "learning_rate.x"])
def test_an_override_that_fits_nowhere_is_a_problem(key):
    with pytest.raises(ConfigError) as caught:
        load(RIGHT, [Override(key, 1)])
    assert [problem.code for problem in caught.value.problems] == ["unknown-key"]


def test_old_booleans_work_on_the_command_line():
    assert load(RIGHT, [Override("sample_packing", "yes")]).config.packing.sample_packing is True


def test_the_callers_mapping_is_left_as_it_was():
    given = {**RIGHT, "datasets": [dict(entry) for entry in RIGHT["datasets"]]}
    load(given, {"datasets.0.path": "z"})
    assert given == RIGHT


def written(tmp_path, text: str) -> str:
    path = tmp_path / "c.yaml"
    path.write_text(
        "base_model: m\nlearning_rate: 1e-4\nmicro_batch_size: 1\noutput_dir: o\n" + text
    )
    return str(path)


DATA = "datasets:\n  - {path: a, type: alpaca}\n"


@pytest.mark.parametrize(
    ("text", "overrides", "key", "value"),
    [
        (
            "evaluation_strategy: epoch\nval_set_size: 1\n",
            {"eval_strategy": "no"},
            "eval_strategy",
            "no",
        ),
        (
            "eval_strategy: epoch\nval_set_size: 1\n",
            {"evaluation_strategy": "no"},
            "eval_strategy",
            "no",
        ),
        ("flash_attention: true\n", {"attn_implementation": "sdpa"}, "attn_implementation", "sdpa"),
        ("attn_implementation: sdpa\n", {"flash_attention": True}, "attn_implementation", None),
        ("attn_implementation: sdpa\n", {"flash_attention": False}, "attn_implementation", "sdpa"),
        ("sdp_attention: true\n", {"eager_attention": True}, "attn_implementation", "eager"),
        ("load_4bit: true\n", {"load_in_4bit": False}, "load_in_4bit", False),
        ("load_in_4bit: true\n", {"load_4bit": False}, "load_in_4bit", False),
        ("float16: true\n", {"fp16": False}, "fp16", False),
        ("float32: true\n", {"bf16": True}, "bf16", True),
        (
            "evaluation_strategy: epoch\nval_set_size: 1\n",
            {"eval_strategy": None},
            "eval_strategy",
            None,
        ),
    ],
)
def test_an_override_wins_over_the_other_spelling_in_the_file(
    tmp_path, text, overrides, key, value
):
    loaded = load(written(tmp_path, DATA + text), overrides)
    flat = to_flat(loaded.config, all=True)
    assert flat[key] == value or (value is None and flat[key] == leaves()[key].default)


@pytest.mark.parametrize(
    "text",
    [
        DATA,
        "dataset: {path: a, type: alpaca}\n",
        "datasets: {path: a, type: alpaca}\n",
        "datasets: a\n",
        "pretraining_dataset: a\nmax_steps: 3\n",
    ],
)
def test_data_of_the_command_line_wins_over_any_spelling_in_the_file(tmp_path, text):
    entry = {"path": "mine", "type": "alpaca"}
    for key, value in (("dataset", entry), ("datasets", [entry])):
        loaded = load(written(tmp_path, text), {key: value})
        assert [one.path for one in loaded.config.data.datasets] == ["mine"]


@pytest.mark.parametrize(
    "text",
    ["dataset: {path: a, type: x}\n", "datasets: {path: a, type: x}\n", "datasets: [a]\n"],
)
def test_entries_have_numbers_in_any_spelling(tmp_path, text):
    loaded = load(written(tmp_path, text), {"datasets.0.type": "alpaca"})
    (entry,) = loaded.config.data.datasets
    assert (entry.path, entry.type) == ("a", "alpaca")


@pytest.mark.parametrize(
    ("inside", "overrides", "field", "value"),
    [
        ("train_on_split: a", {"datasets.0.split": "b"}, "split", "b"),
        ("split: a", {"datasets.0.train_on_split": "b"}, "split", "b"),
        (
            "type: chat_template, message_field_role: from",
            {"datasets.0.message_property_mappings.role": "who"},
            "message_property_mappings",
            {"role": "who"},
        ),
    ],
)
def test_an_override_of_an_entry_wins_too(tmp_path, inside, overrides, field, value):
    kind = "" if "type" in inside else ", type: alpaca"
    path = written(tmp_path, f"datasets:\n  - {{path: a, {inside}{kind}}}\n")
    assert getattr(load(path, overrides).config.data.datasets[0], field) == value


def test_an_argument_of_bitsandbytes_wins_inside_its_block_alone(tmp_path):
    adapter = "adapter: qlora\nload_in_4bit: true\nlora_target_linear: true\n"
    block = "bnb_config_kwargs: {bnb_4bit_quant_type: nf4, bnb_4bit_use_double_quant: false}\n"
    path = written(tmp_path, DATA + adapter + block)
    loaded = load(path, {"bnb_4bit_quant_type": "fp4"})
    assert to_flat(loaded.config)["bnb_config_kwargs"] == {
        "bnb_4bit_quant_type": "fp4",
        "bnb_4bit_use_double_quant": False,
    }


def test_a_block_that_an_override_opens_stands_on_the_command_line(tmp_path):
    path = written(tmp_path, "datasets:\n  - {path: a, type: chat_template}\n")
    human, beta = Override("datasets.0.roles.user", ["human"]), Override("trl.beta", 0.1)
    loaded = load(path, [human, beta])
    assert str(loaded.sources["datasets.0.roles"]) == "command line"
    assert next(text for text in loaded.notices if "trl" in text).startswith("command line: ")
    for wrong in (Override("datasets.0.roles.user", 3), Override("special_tokens.pad", "x")):
        with pytest.raises(ConfigError) as caught:
            load(path, [wrong])
        assert {problem.place for problem in caught.value.problems} == {"command line"}
