"""Each of axolotl's rules between keys has an answer, and the answer is true."""

from __future__ import annotations

import re

import pytest

from scripts.make_docs import axolotl_rules
from tunesmith.config.checks.rules import MACHINE_RULES, RULES
from tunesmith.config.support import state_of

NUMBERS = [*map(str, range(1, 123)), "18b", "65b"]
BY_RULES = {"rule": RULES, "machine rule": MACHINE_RULES}
BY_TABLES = {"read another way", "left out", "refused"}
OF_VALUES = {"type", "bf16", "gradient_checkpointing", "learning_rate", "save_safetensors"}
OTHERWISE = {"derived", "bounds", "notice", "unknown key", "data", "not copied"}


def test_every_rule_of_axolotl_has_one_answer() -> None:
    assert sorted(row["rule"] for row in axolotl_rules()) == sorted(NUMBERS)
    assert {row["answer"] for row in axolotl_rules()} == {*BY_RULES, *BY_TABLES, *OTHERWISE}


@pytest.mark.parametrize("row", axolotl_rules(), ids=lambda row: row["rule"])
def test_the_answer_names_rules_that_exist_or_says_why(row: dict[str, str]) -> None:
    ours = row["our rules"].split()
    known = {rule.check.__name__ for rule in (*RULES, *MACHINE_RULES)}
    assert set(ours) <= known
    assert bool(ours) is (row["answer"] in BY_RULES)
    assert row["what axolotl does"]
    if row["answer"] in ("not copied", "derived", "unknown key", "data", "left out"):
        assert row["note"]


@pytest.mark.parametrize(
    "row",
    [row for row in axolotl_rules() if row["answer"] in BY_TABLES],
    ids=lambda row: row["rule"],
)
def test_what_is_answered_by_a_table_is_in_it(row: dict[str, str]) -> None:
    keys = re.findall(r"`([a-z][a-z0-9_]+)[`:]", row["what axolotl does"])
    states = {state.state for key in keys if (state := state_of(key)) is not None}
    entry = {state.state for key in keys if (state := state_of(f"datasets[].{key}")) is not None}
    assert row["answer"] in states | entry or OF_VALUES & {*keys} or not keys
