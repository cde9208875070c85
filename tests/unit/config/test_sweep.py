import pytest

from tunesmith.config.sweep import MAX_RUNS, read_sweep
from tunesmith.errors import ConfigError


def sweep(tmp_path, text):
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    return read_sweep(str(path))


def test_the_runs_are_all_combinations_once(tmp_path):
    runs = sweep(tmp_path, "lora_r: [8, 16]\nlearning_rate: [1e-4, 2e-4, null]\n")
    assert sorted(str(run.values) for run in runs) == sorted(
        str({"lora_r": rank, "learning_rate": rate})
        for rank in (8, 16)
        for rate in (1e-4, 2e-4, None)
    )
    assert [run.name for run in runs] == [f"sweep{number:04d}" for number in range(6)]


def test_keys_that_go_together_are_combined_with_all_others(tmp_path):
    text = "_:\n- {lora_r: 8, lora_alpha: 16}\n- {lora_r: 32}\nseed: [1, 2]\n"
    runs = sweep(tmp_path, text)
    assert len(runs) == 4
    assert {(r.values["lora_r"], r.values.get("lora_alpha"), r.values["seed"]) for r in runs} == {
        (8, 16, 1),
        (8, 16, 2),
        (32, None, 1),
        (32, None, 2),
    }


def test_the_order_is_drawn_and_always_the_same(tmp_path):
    text = f"seed: {list(range(20))}\n"
    seeds = [run.values["seed"] for run in sweep(tmp_path, text)]
    assert seeds == [run.values["seed"] for run in sweep(tmp_path, text)]
    assert seeds != sorted(seeds)
    assert sorted(seeds) == list(range(20))


def test_every_value_knows_where_it_stands(tmp_path):
    (run,) = sweep(tmp_path, "# first\n_:\n- lora_r: 8\nseed: [1]\n")
    places = {override.key: override.source.rpartition("/")[2] for override in run.overrides}
    assert places == {"lora_r": "sweep.yaml:3:3", "seed": "sweep.yaml:4:8"}


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("seed: 1\n", "seed", 1),
        ("lora_r: [8]\nseed: []\n", "seed", 2),
        ("_: {lora_r: 8}\n", "_", 1),
        ("_: [8]\n", "_.0", 1),
        ("_:\n- {seed: 1}\nseed: [2]\n", "_.0.seed", 2),
        ("seed: [1, 2, 1]\n", "seed.2", 1),
        ("datasets: [[{path: a}], [{path: a}]]\n", "datasets.1", 1),
        ("_:\n- {seed: 1, lora_r: 2}\n- {lora_r: 2, seed: 1}\n", "_.1", 3),
        ("seed: [1]\nseed: [2]\n", "seed", 2),
        ("seed: [\n", "", 2),
    ],
)
def test_a_wrong_shape_is_said_with_its_place(tmp_path, text, key, line):
    with pytest.raises(ConfigError) as caught:
        sweep(tmp_path, text)
    (problem,) = caught.value.problems
    assert (problem.key, problem.line) == (key, line)


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("learning_rate: 1e-4\n", "write `[1e-4]`"),
        ("optimizer: 'adamw_torch' # x\n", "write `['adamw_torch']`"),
        ("seed: []\n", "use `[...]`"),
        ("seed:\n", "use `[...]`"),
        ("special_tokens:\n  pad_token: x\n", "use `[...]`"),
    ],
)
def test_a_single_value_is_answered_with_its_list(tmp_path, text, fix):
    with pytest.raises(ConfigError) as caught:
        sweep(tmp_path, text)
    assert caught.value.problems[0].fix == fix


def test_equal_values_of_other_types_are_no_repetition(tmp_path):
    assert len(sweep(tmp_path, "lora_r: [1, 1.0, true, '1', null]\n")) == 5


@pytest.mark.parametrize("text", ["", "- 1\n", "{}\n"])
def test_a_file_without_keys_is_refused(tmp_path, text):
    with pytest.raises(ConfigError, match="keys to lists"):
        sweep(tmp_path, text)


def test_there_is_an_end_to_the_number_of_runs(tmp_path):
    numbers = list(range(MAX_RUNS))
    assert len(sweep(tmp_path, f"seed: {numbers}\n")) == MAX_RUNS
    with pytest.raises(ConfigError, match="2,000 runs"):
        sweep(tmp_path, f"seed: {numbers}\nlora_r: [1, 2]\n")
