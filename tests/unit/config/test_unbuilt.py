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
