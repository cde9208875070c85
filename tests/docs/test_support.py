"""The support table says of axolotl's keys what the reader of configs does with them."""

from __future__ import annotations

import pytest

from scripts.make_docs import STATES, axolotl_keys, state_of
from tests.docs.test_commands import SMALLEST
from tunesmith.config.kinds import NAMES, inner_keys, kinds
from tunesmith.config.read import load
from tunesmith.config.unbuilt import unbuilt_keys
from tunesmith.errors import ConfigError

QLORA = {"adapter": "qlora", "load_in_4bit": True, "lora_target_linear": True}
# A value that asks for something, where a word does not.
ASKING = {"tokenizer_use_fast": False, "rl": "dpo"}
# Always so, and said only where the config contradicts it.
SILENT = {"save_safetensors", "pretrain_multipack_attn"}
VALUES = {
    "dataset_processes": 1,
    "evaluation_strategy": "no",
    "pretraining_dataset": "texts.jsonl",
    "pretrain_multipack_buffer_size": 50,
}
# What must stand beside a key, or must not.
BESIDE = {"pretraining_dataset": {"datasets": None, "max_steps": 5}}
# The current spelling of the same key in axolotl itself.
CURRENT = {"type_of_model"}


def top_keys(state: str) -> list[str]:
    keys = [k for k in axolotl_keys() if not {".", "[", ":"} & set(k)]
    return [key for key in keys if state_of(key)[0] == state]


# A value of each kind that asks for something.
OF_KIND: dict[str, object] = {
    "flag": True,
    "count": 3,
    "whole": 3,
    "integer": 3,
    "rate": 0.3,
    "share": 0.3,
    "positive": 0.3,
    "number": 0.3,
    "text": "some",
    "words": ["some"],
    "list": [1],
    "any": True,
}


def asking(key: str) -> object:
    """A value that a key of axolotl takes: a block gets its first key, free-form ones any."""
    kind = kinds().get(key, "text")
    if kind in OF_KIND:
        return next(iter(NAMES[key].split())) if key in NAMES else OF_KIND[kind]
    if kind == "name":
        return NAMES[key].split()[0]
    inner = (*inner_keys(key), "free")[0]
    return {inner: asking(f"{key}.{inner}")}


def answer(key: str, value: object) -> tuple[set[str], list[str]]:
    """The codes of the problems about the key, and the notices that name it."""
    try:
        notices = load(SMALLEST | QLORA | BESIDE.get(key, {}) | {key: value}).notices
    except ConfigError as error:
        mine = [problem for problem in error.problems if problem.key.split(".")[0] == key]
        return {problem.code for problem in mine}, list(error.notices)
    return set(), [notice for notice in notices if key in notice]


def test_every_key_has_a_state_and_every_state_a_key() -> None:
    assert {state_of(path)[0] for path in axolotl_keys()} == set(STATES)


@pytest.mark.parametrize("key", top_keys("refused"))
def test_what_is_refused_is_refused(key: str) -> None:
    assert answer(key, True) == ({"refused"}, [])


@pytest.mark.parametrize("key", top_keys("left out"))
def test_what_is_left_out_is_said(key: str) -> None:
    codes, notices = answer(key, ASKING.get(key, "something"))
    assert not codes
    assert bool(notices) is (key not in SILENT)


@pytest.mark.parametrize("key", top_keys("not built"))
def test_what_is_not_built_is_named(key: str) -> None:
    value = ASKING.get(key, asking(key))
    codes, notices = answer(key, value)
    assert codes or notices or unbuilt_keys()[key].is_off(value)
    assert codes <= {"not-built", "conflict", "missing"}
    if unbuilt_keys()[key].switches and not unbuilt_keys()[key].is_off(value):
        assert "not-built" in codes


@pytest.mark.parametrize("key", sorted({*top_keys("read another way")} - CURRENT))
def test_what_is_read_another_way_says_so(key: str) -> None:
    codes, notices = answer(key, VALUES.get(key, True))
    assert not codes
    assert notices
