"""Every value is bounded: of the keys of sections, and of those that are not built yet."""

from __future__ import annotations

import csv
import inspect
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

from tests.unit.config.broken import RIGHT
from tunesmith.config.checks.adapters import BNB_ARGUMENTS, BNB_NAMES
from tunesmith.config.flat import Leaf, leaves
from tunesmith.config.kinds import inner_keys, kinds, plain_key, value_problem
from tunesmith.config.read import load
from tunesmith.config.section import Section, arms
from tunesmith.config.unbuilt import unbuilt_keys
from tunesmith.errors import ConfigError, Problem


def problems_of(values: dict[str, Any]) -> list[Problem]:
    try:
        load(RIGHT | values)
    except ConfigError as error:
        return list(error.problems)
    return []


def about(key: str, values: dict[str, Any]) -> list[str]:
    return [p.code for p in problems_of(values) if p.key == key]


def written(flat: str, value: Any) -> dict[str, Any]:
    """The key with a value, in a block or an entry of a list where it lies in one."""
    for name in reversed(flat.split(".")):
        listed = name.endswith("[]")
        value = {name.removesuffix("[]"): [value] if listed else value}
    (key, inside) = next(iter(value.items()))
    entry = {"path": "a"} if key in ("datasets", "test_datasets") else {}
    return {key: [entry | inside[0]]} if entry else {key: inside}


def of_type(*kinds_of_value: Any) -> list[Leaf]:
    return [leaf for leaf in leaves().values() if {*arms(leaf.annotation)} & {*kinds_of_value}]


@pytest.mark.parametrize("leaf", of_type(int, float), ids=lambda leaf: leaf.flat)
def test_every_number_has_a_least_and_a_most(leaf: Leaf) -> None:
    key = leaf.flat.replace("[]", ".0")
    for value in (-1e30, 1e300, -(10**40), 10**40, math.nan, math.inf):
        assert about(key, written(leaf.flat, value)) in (["out-of-range"], ["wrong-type"]), value


def texts() -> list[Leaf]:
    blocks = {leaf.flat: leaf.inner for leaf in leaves().values()}
    return [
        leaf
        for leaf in of_type(str, list[str], tuple[str, ...])
        if leaf.field not in (blocks.get(leaf.parent) or Section).may_be_blank
    ]


@pytest.mark.parametrize("leaf", texts(), ids=lambda leaf: leaf.flat)
def test_no_text_is_empty(leaf: Leaf) -> None:
    key = leaf.flat.replace("[]", ".0")
    takes_text = str in arms(leaf.annotation)
    for value in ("", "  ") if takes_text else ([""], ["a", " "]):
        assert about(key, written(leaf.flat, value))[:1] == ["out-of-range"]


def literals() -> list[tuple[Leaf, str]]:
    return [
        (leaf, str(word))
        for leaf in leaves().values()
        for arm in arms(leaf.annotation)
        if get_origin(arm) is Literal
        for word in get_args(arm)
        if isinstance(word, str) and len(word) > 3
    ]


@pytest.mark.parametrize(("leaf", "word"), literals())
def test_a_misspelt_name_is_refused_with_the_nearest(leaf: Leaf, word: str) -> None:
    wrong = word[:2] + word[3:]
    found = problems_of(written(leaf.flat, wrong) | {"load_in_4bit": False})
    (problem,) = [p for p in found if p.key == leaf.flat.replace("[]", ".0")]
    assert (problem.code, problem.fix) == ("out-of-range", f"did you mean `{word}`?")
    assert list(problem.edit.values()) == [word]


def test_a_key_that_is_not_built_takes_no_value_of_another_kind() -> None:
    for flat in unbuilt_keys():
        kind = kinds().get(flat.replace("test_datasets", "datasets"), "text")
        if kind in ("any", "map") or flat in ("rl", "tokens"):  # judged by their own rules
            continue
        assert value_problem(flat, {"a": 1}) is not None, flat
        wrong = "text" if kind in ("flag", "list") else {"a": 1}
        key = flat.replace("[]", ".0")
        codes = about(key, written(flat, wrong))
        assert {"wrong-type", "out-of-range"} & {*codes} or kind == "name", flat


@pytest.mark.parametrize(
    ("key", "value", "code", "said"),
    [
        ("dp_shard_size", -2, "out-of-range", "must be 1 or more, not `-2`"),
        ("dp_shard_size", 1.5, "wrong-type", "must be a whole number, not `1.5`"),
        ("embedding_lr", -1e-5, "out-of-range", "must be 0 or more"),
        ("embedding_lr", math.nan, "out-of-range", "must be a finite number"),
        ("embedding_lr", 10**400, "out-of-range", "must be a finite number"),
        ("embedding_lr", True, "wrong-type", "must be a number, not `true`"),
        ("relora_prune_ratio", 1.5, "out-of-range", "must be 1 or less, not `1.5`"),
        ("neftune_noise_alpha", -5, "out-of-range", "must be greater than 0, not `-5`"),
        ("relora", "maybe", "wrong-type", "must be true or false, not `maybe`"),
        ("wandb_project", ["a"], "wrong-type", "must be text, not a list"),
        ("fsdp_config", "full", "wrong-type", "must be a mapping, not `full`"),
        ("lr_groups", {"a": 1}, "wrong-type", "must be a list, not a mapping"),
        (
            "relora_prune_method",
            "magnitud",
            "out-of-range",
            "must be `magnitude`, `random` or `reset`, not `magnitud`",
        ),
        (
            "activation_offloading",
            "legcay",
            "out-of-range",
            "must be `legacy`, `disk` or `hidden_states`, not `legcay`",
        ),
    ],
)
def test_what_is_wrong_is_said(key: str, value: Any, code: str, said: str) -> None:
    (problem,) = [p for p in problems_of({key: value}) if p.code != "not-built" and p.key == key]
    assert problem.code == code
    assert problem.message.startswith(said)


@pytest.mark.parametrize(
    ("key", "wrong", "meant"), [("bf16", "ture", True), ("sample_packing", "flase", False)]
)
def test_a_misspelt_truth_value_is_known(key: str, wrong: str, meant: bool) -> None:
    (problem,) = problems_of({key: wrong})
    assert problem.edit == {key: meant}
    assert problem.fix == f"did you mean `{str(meant).lower()}`?"


@pytest.mark.parametrize(
    "values",
    [
        {"activation_offloading": True, "gradient_checkpointing": True},
        {"fsdp_config": {"fsdp_version": "2", "fsdp_offload_params": True}},
        {"embedding_lr": "1e-5"},
        {"fsdp": "full_shard auto_wrap"},
        {"trl": {"generation_kwargs": {"anything": {"goes": 1}}}, "rl": "dpo"},
        {"deepspeed": {"zero_optimization": {"stage": 2}}},
    ],
)
def test_values_that_can_be_are_only_not_built(values: dict[str, Any]) -> None:
    assert {p.code for p in problems_of(values)} == {"not-built"}


@pytest.mark.parametrize(
    ("values", "key", "meant"),
    [
        ({"fsdp_config": {"offload_parms": True}}, "fsdp_config.offload_parms", "offload_params"),
        ({"rl": "grpo", "trl": {"num_generation": 4}}, "trl.num_generation", "num_generations"),
        ({"lr_groups": [{"nmae": "a", "lr": 1}]}, "lr_groups.0.nmae", "name"),
        ({"peft": {"loftq_config": {"loftq_bit": 4}}}, "peft.loftq_config.loftq_bit", "loftq_bits"),
    ],
)
def test_a_misspelt_key_of_a_block_that_is_not_built(
    values: dict[str, Any], key: str, meant: str
) -> None:
    (problem,) = [p for p in problems_of(values) if p.code != "not-built"]
    assert (problem.code, problem.key) == ("unknown-key", key)
    assert problem.fix == f"did you mean `{meant}`?"
    assert set(problem.edit) == {key, f"{key.rpartition('.')[0]}.{meant}"}


def test_lenient_leaves_a_misspelt_key_of_such_a_block_out_aloud() -> None:
    with pytest.raises(ConfigError) as caught:
        load(RIGHT | {"fsdp_config": {"offload_parms": True}}, lenient=True)
    assert [p.code for p in caught.value.problems] == ["not-built"]
    assert any("fsdp_config.offload_parms" in notice for notice in caught.value.notices)


def test_keys_of_the_first_fsdp_alone_are_left_out_aloud() -> None:
    block = {"fsdp_limit_all_gathers": True, "sharding_strategy": "FULL_SHARD"}
    with pytest.raises(ConfigError) as caught:
        load(RIGHT | {"fsdp_config": block})
    assert [p.code for p in caught.value.problems] == ["not-built"]
    for name in block:
        assert any(f"fsdp_config.{name} is left out" in notice for notice in caught.value.notices)


def test_kinds_are_only_of_keys_that_are_not_built() -> None:
    built = [key for key in kinds() if not {*blocks_around(key)} & {*unbuilt_keys()}]
    assert built == [], "take what is built now out of `tunesmith.config.kinds`"


def blocks_around(flat: str) -> Iterator[str]:
    parts = flat.split(".")
    for end in range(1, len(parts) + 1):
        yield ".".join(parts[:end])
        yield ".".join(parts[:end]).removesuffix("[]")


def blocks_of_the_unbuilt() -> set[str]:
    """The blocks, and lists of blocks, whose keys are known."""
    return {
        outer for key in kinds() if (outer := key.rpartition(".")[0]) and "datasets" not in outer
    }


# Type in axolotl's own table -> the kinds that can stand for it.
NUMBERS = {"int": {"count", "whole", "integer"}, "float": {"rate", "share", "positive", "number"}}


def test_kinds_agree_with_the_types_of_axolotl(reference: Path) -> None:
    table = reference / "reference" / "config-keys.tsv"
    with table.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    checked = 0
    for row in rows:
        path, kind = row["path"].removeprefix("cloud:"), row["type"].rstrip("?")
        kind = kind.removesuffix(" | None")
        if not {*blocks_around(path)} & {*unbuilt_keys()}:
            continue
        found = kinds().get(plain_key(path), "text")
        checked += 1
        if kind in NUMBERS and path != "kd_trainer" and "fsdp_version" not in path:
            assert found in NUMBERS[kind], (path, found)
        if kind in ("bool", "str"):
            wanted = {"flag"} if kind == "bool" else {"text", "words", "name"}
            assert found in wanted, (path, found)
        outer, _, name = path.rpartition(".")
        if outer in blocks_of_the_unbuilt() and "fsdp_version" not in path:
            assert name in inner_keys(outer)
    assert checked


def test_the_arguments_of_bitsandbytes_are_its_own() -> None:
    from transformers import BitsAndBytesConfig

    taken = {*inspect.signature(BitsAndBytesConfig.__init__).parameters}
    assert {*BNB_ARGUMENTS} == taken - {"self", "kwargs", "load_in_4bit", "load_in_8bit"}
    assert {*BNB_NAMES} <= {*BNB_ARGUMENTS}
    for name, values in BNB_NAMES.items():
        for value in values:
            BitsAndBytesConfig(**{name: value})
