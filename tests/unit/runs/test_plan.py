"""Derived values: what they are, and the reason that each gives."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from transformers import LlamaConfig

from tests.unit.engine.parts import Rows
from tunesmith.config.environment import named_machine
from tunesmith.config.read import load
from tunesmith.data.samples import TokenSample
from tunesmith.models.facts import read_facts
from tunesmith.runs.plan import Facts, make_plan

CPU = named_machine("cpu")


def rows(*lengths):
    """Rows of which all but the first token train."""
    return Rows(
        [
            TokenSample(np.zeros(n, dtype=np.int32), ((1, n, 1.0),), f"r.jsonl:{i}")
            for i, n in enumerate(lengths, start=1)
        ]
    )


def facts(lengths=(30,) * 20, **changes):
    architecture = read_facts(LlamaConfig(architectures=["LlamaForCausalLM"]))
    made = Facts(CPU, architecture, rows(*lengths), None, 0, {"data_fingerprint": "d"})
    return replace(made, **changes)


def plan(config=(), made=None):
    keys = {
        "base_model": "m",
        "datasets": [{"path": "r.jsonl", "type": "alpaca"}],
        "learning_rate": 1e-4,
        "micro_batch_size": 2,
        "sequence_len": 64,
        "num_epochs": 1,
        **dict(config),
    }
    config = load({name: value for name, value in keys.items() if value is not None}).config
    return make_plan(config, made if made is not None else facts())


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"micro_batch_size": 2, "gradient_accumulation_steps": 3}, (2, 3, 6)),
        ({"micro_batch_size": 2, "batch_size": 8}, (2, 4, 8)),
        ({"micro_batch_size": None, "batch_size": 8, "gradient_accumulation_steps": 4}, (2, 4, 8)),
        ({"micro_batch_size": 2}, (2, 1, 2)),
    ],
)
def test_the_batch_arithmetic(keys, expected):
    made = plan(keys)
    found = (made.micro_batch.value, made.accumulation.value, made.global_batch.value)
    assert found == expected


@pytest.mark.parametrize(
    ("keys", "per_epoch", "steps"),
    [
        ({}, 10, 10),  # 20 rows, 2 a step
        ({"num_epochs": 3}, 10, 30),
        ({"num_epochs": 0.5}, 10, 5),
        ({"sample_packing": True}, 5, 5),  # two rows of 30 in 64 tokens
        ({"micro_batch_size": 3}, 7, 7),  # the last step is short
        ({"max_steps": 4}, 10, 4),
        ({"max_steps": 25, "num_epochs": None}, 10, 25),
    ],
)
def test_steps_follow_from_the_lengths(keys, per_epoch, steps):
    made = plan(keys)
    assert (made.steps_per_epoch.value, made.steps.value) == (per_epoch, steps)
    assert (made.rows.value, made.tokens.value, made.trained_tokens.value) == (20, 600, 580)


def test_an_estimate_is_marked_where_it_is_one():
    guess = plan(made=facts(estimated=True))
    assert {name for name, choice in guess.chosen() if choice.estimated} == {
        "rows",
        "tokens",
        "trained_tokens",
        "steps_per_epoch",
        "steps",
        "warmup_steps",
    }
    fixed = plan({"max_steps": 3}, facts(estimated=True))
    assert not fixed.steps.estimated
    assert not fixed.warmup_steps.estimated
    assert not plan({"warmup_steps": 3}, facts(estimated=True)).warmup_steps.estimated
    assert not any(choice.estimated for _, choice in plan().chosen())


@pytest.mark.parametrize(
    ("keys", "evaluate", "save"),
    [
        ({}, False, False),  # every epoch, however long it is
        ({"eval_steps": 0.2, "save_steps": 5}, True, False),
        ({"eval_steps": 5, "save_steps": 0.2}, False, True),
        ({"eval_steps": 0.2, "save_steps": 0.2, "max_steps": 4}, False, False),
        ({"evals_per_epoch": 2, "saves_per_epoch": 0}, True, False),
        ({"evals_per_epoch": 2, "saves_per_epoch": 2, "max_steps": 4}, True, True),
    ],
)
def test_an_interval_is_estimated_where_it_follows_from_estimated_steps(keys, evaluate, save):
    made = plan({**keys, "val_set_size": 0.1}, facts(held_out=rows(10, 10), estimated=True))
    assert (made.evaluate.estimated, made.save.estimated) == (evaluate, save)
    exact = plan({**keys, "val_set_size": 0.1}, facts(held_out=rows(10, 10)))
    assert not exact.evaluate.estimated
    assert not exact.save.estimated


def test_the_rows_say_how_they_were_estimated():
    made = plan(made=facts(estimated=True, note="3 of the first 1,000 cannot be read"))
    assert made.rows.reason.endswith(": 3 of the first 1,000 cannot be read")


@pytest.mark.parametrize(
    ("machine", "keys", "compute", "weights"),
    [
        ("h100", {"bf16": "auto"}, "bfloat16", "bfloat16"),
        ("h100", {"bf16": "auto", "adapter": "lora"}, "bfloat16", "bfloat16"),
        ("h100", {"bf16": True, "optimizer": "adamw_bnb_8bit"}, "bfloat16", "float32"),
        ("h100", {"bf16": True, "master_weights": "fp32"}, "bfloat16", "float32"),
        ("h100", {"bf16": False}, "float32", "float32"),
        ("h100", {"bf16": False, "fp16": True}, "float16", "float32"),
        ("t4", {"bf16": "auto"}, "float16", "float32"),
        ("cpu", {"bf16": "auto"}, "float32", "float32"),
        ("cpu", {"bf16": True}, "bfloat16", "bfloat16"),
    ],
)
def test_dtypes_follow_from_keys_and_machine(machine, keys, compute, weights):
    if "adapter" in keys:
        keys = {**keys, "lora_target_linear": True}
    made = plan(keys, facts(environment=named_machine(machine)))
    assert (made.compute_dtype.value, made.weights_dtype.value) == (compute, weights)
    assert made.device.value == named_machine(machine).device


def test_bf16_on_a_slow_cpu_says_what_it_costs():
    assert "70 times slower" in plan({"bf16": True}).compute_dtype.reason
    fast = facts(environment=replace(CPU, bf16_compute=True))
    assert "slower" not in plan({"bf16": True}, fast).compute_dtype.reason
    assert plan({"bf16": "auto"}, fast).compute_dtype.value == "bfloat16"


@pytest.mark.parametrize(
    ("keys", "count", "reason"),
    [
        ({"warmup_steps": 7}, 7, "as asked"),
        ({"warmup_steps": 1}, 2, "two for one"),
        ({"warmup_ratio": 0.4}, 4, "warmup_ratio 0.4 of 10 steps"),
        ({}, 0, "3 % of all steps"),
        ({"num_epochs": 20}, 6, "3 % of all steps"),
    ],
)
def test_warmup_says_where_it_came_from(keys, count, reason):
    made = plan(keys)
    assert made.warmup_steps.value == count
    assert reason in made.warmup_steps.reason


def test_a_model_that_cannot_keep_documents_apart_is_not_packed():
    apart = replace(facts().architecture, isolates=False, isolates_why="it scans over all tokens")
    made = plan({"sample_packing": True}, facts(architecture=apart))
    assert made.packing.value is False
    assert "off although asked for" in made.packing.reason
    assert "it scans over all tokens" in made.packing.reason
    assert made.steps.value == 10
    assert not made.train_order.packed
    assert not made.held_out_order.packed


def test_held_out_rows_are_read_once_and_in_order():
    made = plan(
        {"sample_packing": True, "eval_batch_size": 3, "val_set_size": 0.1},
        facts(held_out=rows(10, 10)),
    )
    order = made.held_out_order
    assert (order.shuffle, order.epochs, order.max_steps) == (False, 1.0, None)
    assert (order.packed, order.micro_batch) == (True, 3)
    assert (
        plan({"sample_packing": True, "eval_sample_packing": False}).held_out_order.packed is False
    )


def test_identity_changes_with_what_the_weights_depend_on():
    first = plan().identity
    assert first == plan().identity
    assert first["data_fingerprint"] == "d"
    assert plan({"seed": 1}).identity != first
    assert plan({"micro_batch_size": 4}).identity != first
    assert plan(made=facts(lengths=(30,) * 24)).identity != first


def test_a_plan_is_json_and_every_value_has_a_reason():
    made = plan({"sample_packing": True})
    data = json.loads(json.dumps(made.to_json()))
    assert data["config"]["sample_packing"] is True
    assert set(data["values"]) == {name for name, _ in made.chosen()}
    assert all(value["reason"] for value in data["values"].values())
    assert data["values"]["packing"] == {
        "value": True,
        "reason": "as asked",
        "keys": ["sample_packing"],
    }
