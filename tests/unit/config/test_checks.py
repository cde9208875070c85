"""Every rule: a config that breaks it, and the same one after the edit that the problem names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.config.broken import ASKED, BUILT, LORA, QLORA, RIGHT
from tests.unit.config.broken_combinations import COMBINED
from tests.unit.config.edits import edited
from tunesmith.config.checks import rules
from tunesmith.config.checks.asked import Asked
from tunesmith.config.checks.names import name_problem
from tunesmith.config.checks.rule import PlainRule, Rule
from tunesmith.config.checks.rules import MACHINE_RULES, RULES
from tunesmith.config.environment import MACHINES, Environment, named_machine
from tunesmith.config.flat import top_leaves
from tunesmith.config.legacy import legacy_keys
from tunesmith.config.read import load
from tunesmith.config.unbuilt import unbuilt_keys
from tunesmith.errors import ConfigError, Problem

CASES = BUILT + ASKED + COMBINED
KEYS = Path(__file__).parents[3] / "docs/reference/axolotl-keys.txt"


def problems_of(values: Mapping[str, Any], machine: Environment | None = None) -> list[Problem]:
    try:
        load(values, environment=machine)
    except ConfigError as error:
        return list(error.problems)
    return []


def said(problems: list[Problem], *, unbuilt: bool) -> list[tuple[str, str]]:
    """Code and key of each problem, those of what is not built only where asked for."""
    return [(p.code, p.key) for p in problems if unbuilt or p.code != "not-built"]


def test_the_config_that_the_cases_begin_with_is_right() -> None:
    assert problems_of(RIGHT) == []


@pytest.mark.parametrize(("broken", "code", "key"), CASES)
def test_a_broken_rule_is_one_problem_and_its_edit_mends_it(
    broken: dict[str, Any], code: str, key: str
) -> None:
    values = RIGHT | broken
    found = problems_of(values)
    unbuilt = code == "not-built"
    assert said(found, unbuilt=unbuilt) == [(code, key)]
    (problem,) = [p for p in found if (p.code, p.key) == (code, key)]
    assert problem.message
    assert problem.edit
    assert said(problems_of(edited(values, problem.edit)), unbuilt=unbuilt) == []


@pytest.mark.parametrize(("broken", "code", "key"), CASES)
def test_the_fix_says_what_the_edit_does(broken: dict[str, Any], code: str, key: str) -> None:
    problem = next(p for p in problems_of(RIGHT | broken) if (p.code, p.key) == (code, key))
    for changed, value in problem.edit.items():
        name = changed.rpartition(".")[2]
        assert name in problem.fix or f"`{value}`" in problem.fix or changed == key, problem


def test_every_rule_is_broken_by_some_case(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: set[object] = set()
    ask = rules._problems

    def listen(rule: Rule | PlainRule, asked: Asked) -> Iterator[Problem]:
        found = [*ask(rule, asked)]
        heard.update([rule.check] if found else [])
        yield from found

    monkeypatch.setattr(rules, "_problems", listen)
    for broken, *_ in CASES:
        problems_of(RIGHT | broken)
    assert [rule.check.__name__ for rule in RULES if rule.check not in heard] == []


def test_rules_name_keys_that_exist_and_say_what_they_are_for() -> None:
    known = {*top_leaves(), *unbuilt_keys(), *legacy_keys(), *KEYS.read_text().split()}
    for rule in (*RULES, *MACHINE_RULES):
        assert set(rule.keys) <= known
        assert rule.check.__doc__


@pytest.mark.parametrize(("broken", "code", "key"), BUILT)
def test_a_rule_is_silent_where_one_of_its_keys_is_itself_wrong(
    broken: dict[str, Any], code: str, key: str
) -> None:
    top = key.split(".")[0]
    found = problems_of(RIGHT | broken | {top: {"no": "such value"}})
    assert {p.key.split(".")[0] for p in found if p.key.split(".")[0] == top} == {top}
    assert (code, key) not in said(found, unbuilt=True) or top == key == "datasets"


def test_a_problem_of_what_is_not_built_comes_with_the_others() -> None:
    wrong = RIGHT | QLORA | {"fsdp_config": {"version": 2}, "optimizer": "adamw_8bit"}
    found = problems_of(wrong | {"rl": "dpo", "micro_batch_size": 0})
    assert set(said(found, unbuilt=True)) == {
        ("out-of-range", "micro_batch_size"),
        ("not-built", "fsdp_config"),
        ("not-built", "rl"),
        ("conflict", "optimizer"),
    }


@pytest.mark.parametrize(
    "right",
    [
        {"early_stopping_patience": 3, "eval_steps": 0.1, "save_steps": 0.3, "val_set_size": 0.1},
        {"early_stopping_patience": 3, "eval_steps": 50, "save_steps": 100, "val_set_size": 0.1},
        {"early_stopping_patience": 3, "eval_steps": 50, "save_steps": 0.5, "val_set_size": 0.1},
        {"save_strategy": "best", "metric_for_best_model": "loss", "val_set_size": 0.1},
        {"relora": True, "jagged_restart_steps": 100, **LORA},
        {"rl": "grpo", "trl": {"num_generations": 4}, "gradient_accumulation_steps": 2},
        {"rl": "dpo", "dpo_loss_type": ["sigmoid", "sft"], "dpo_loss_weights": [1.0, 0.1]},
        {"fsdp_config": {"fsdp_version": 2}, "optimizer": "adamw_torch_8bit"},
        {"fsdp_config": {"cpu_ram_efficient_loading": True}, **QLORA},
        {"activation_offloading": True, "gradient_checkpointing": True},
        {"gradient_checkpointing": True, "selective_checkpointing": {"save": ["attention"]}},
        {"gptq": True, **LORA},
        {"scaling_softmax": True, "flex_attention": True},
    ],
)
def test_what_is_not_built_and_right_is_only_not_built(right: dict[str, Any]) -> None:
    found = problems_of(RIGHT | right)
    assert {code for code, _ in said(found, unbuilt=True)} == {"not-built"}


def test_a_name_that_is_not_built_is_told_from_one_that_does_not_exist() -> None:
    for name, code, edit in (
        ("lion", "not-built", "adamw_torch_fused"),
        ("adma", "out-of-range", "adam"),
    ):
        problem = name_problem("optimizer", name, "optimizer", ["adam"], frozenset({"lion"}))
        assert problem is not None
        assert (problem.code, problem.edit) == (code, {"optimizer": edit})
        assert edit in problem.fix
    assert name_problem("optimizer", "adam", "optimizer", ["adam"], frozenset()) is None


MACHINE_CASES: list[tuple[dict[str, Any], str, str]] = [
    ({"bf16": True}, "v100", "h100"),
    ({"fp16": True}, "cpu", "t4"),
    ({"tf32": True}, "cpu", "rtx4090"),
    ({"attn_implementation": "flash_attention_2"}, "t4", "a100-80"),
    ({"optimizer": "paged_adamw_8bit"}, "cpu", "l4"),
    ({"fp8": True}, "a100-80", "h100"),
    ({"sage_attention": True}, "t4", "h100"),
    ({"dp_shard_size": 4, "tensor_parallel_size": 2}, "h100x4", "h100x8"),
]


@pytest.mark.parametrize(("keys", "wrong", "right"), MACHINE_CASES)
def test_a_machine_refuses_what_it_cannot_do(keys: dict[str, Any], wrong: str, right: str) -> None:
    found = problems_of(RIGHT | keys, named_machine(wrong))
    (problem,) = [p for p in found if p.code == "conflict"]
    assert problem.key in keys
    assert problem.fix
    mended = edited(RIGHT | keys, problem.edit)
    assert said(problems_of(mended, named_machine(wrong)), unbuilt=False) == []
    assert said(problems_of(RIGHT | keys, named_machine(right)), unbuilt=False) == []


@pytest.mark.parametrize(("keys", "wrong", "right"), MACHINE_CASES[:5])
def test_what_needs_a_machine_is_deferred_without_one(
    keys: dict[str, Any], wrong: str, right: str
) -> None:
    (text,) = load(RIGHT | keys).deferred
    assert next(iter(keys.values())) is True or str(next(iter(keys.values()))) in text
    assert load(RIGHT | keys, environment=named_machine(right)).deferred == []


def test_bf16_on_a_cpu_is_no_problem() -> None:
    assert problems_of(RIGHT | {"bf16": True}, MACHINES["cpu"]) == []


def test_nothing_is_deferred_where_the_machine_decides() -> None:
    assert load(RIGHT).deferred == []


def test_cases_are_told_apart() -> None:
    keys = [(sorted(map(str, broken.items())), key) for broken, _, key in CASES]
    assert all(keys.count(key) == 1 for key in keys)
