import pytest

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
