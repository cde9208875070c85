"""Schedules: the rates of transformers, torch and axolotl, step by step."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import get_scheduler

from tunesmith.catalog import SCHEDULES
from tunesmith.config.optim import OptimSection
from tunesmith.errors import ConfigError
from tunesmith.optim.optimizer import Optimizer, set_rates
from tunesmith.optim.schedules import build_schedule, count_warmup, default_warmup

RATE = 0.002


def section(name, floor=None, **args):
    return OptimSection(
        learning_rate=RATE, schedule=name, schedule_args=args or None, cosine_min_lr_ratio=floor
    )


def ours(name, steps, warmup, n, floor=None, **args):
    schedule = build_schedule(section(name, floor, **args), steps, warmup)
    return [RATE * schedule(step) for step in range(n)]


def rates(optimizer, scheduler, n):
    found = []
    for _ in range(n):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def optimizer():
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=RATE)


CASES = [
    ("constant", {}),
    ("constant_with_warmup", {}),
    ("linear", {}),
    ("cosine", {}),
    ("cosine_with_restarts", {}),
    ("cosine_with_restarts", {"num_cycles": 3}),
    ("polynomial", {}),
    ("polynomial", {"lr_end": 1e-5, "power": 2.0}),
    ("inverse_sqrt", {}),
    ("inverse_sqrt", {"timescale": 25}),
    ("cosine_with_min_lr", {"min_lr": 3e-4}),
    ("cosine_with_min_lr", {"min_lr_rate": 0.2, "num_cycles": 1.5}),
    ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.1}),
    ("cosine_warmup_with_min_lr", {"min_lr": 1e-4, "warmup_lr_rate": 0.3}),
    ("warmup_stable_decay", {"num_decay_steps": 12}),
    ("warmup_stable_decay", {"num_decay_steps": 12, "decay_type": "1-sqrt", "min_lr_ratio": 0.1}),
    (
        "warmup_stable_decay",
        {
            "num_decay_steps": 9,
            "warmup_type": "cosine",
            "decay_type": "linear",
            "min_lr_ratio": 0.1,
        },
    ),
    ("warmup_stable_decay", {"num_decay_steps": 9, "warmup_type": "1-sqrt"}),
]


@pytest.mark.parametrize("warmup", [0, 1, 7])
@pytest.mark.parametrize(("name", "args"), CASES)
def test_fifty_steps_equal_transformers(name, args, warmup):
    theirs = optimizer()
    scheduler = get_scheduler(
        name,
        theirs,
        num_warmup_steps=warmup,
        num_training_steps=45,
        scheduler_specific_kwargs=dict(args),
    )
    # Five steps beyond the end: a run that goes on must not see a rate that rises again.
    assert ours(name, 45, warmup, 50, **args) == pytest.approx(
        rates(theirs, scheduler, 50), rel=1e-12, abs=1e-18
    )


def test_transformers_cases_leave_nothing_out():
    assert {name for name, _ in CASES} | {"one_cycle", "rex"} == set(SCHEDULES)


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"anneal_strategy": "linear"},
        {"three_phase": True},
        {"base_momentum": 0.7, "max_momentum": 0.9},
        {"pct_start": 0.4, "div_factor": 10.0, "final_div_factor": 50.0},
    ],
)
@pytest.mark.parametrize("warmup", [2, 12])
def test_one_cycle_equals_torch(args, warmup):
    parameter = torch.zeros(1, requires_grad=True)
    theirs = torch.optim.AdamW([parameter], lr=RATE)
    kwargs = {"pct_start": warmup / 50} | args
    scheduler = torch.optim.lr_scheduler.OneCycleLR(theirs, max_lr=RATE, total_steps=50, **kwargs)
    schedule = build_schedule(section("one_cycle", **args), 50, warmup)
    ours = Optimizer(torch.optim.AdamW([parameter], lr=RATE), [RATE])
    for step in range(50):
        set_rates(ours, schedule, step)
        (mine,), (other,) = ours.inner.param_groups, theirs.param_groups
        assert mine["lr"] == pytest.approx(other["lr"], rel=1e-12)
        assert mine["betas"] == pytest.approx(other["betas"], rel=1e-12)
        if step < 49:
            theirs.step()
            scheduler.step()


def test_momentum_may_stay():
    schedule = build_schedule(section("one_cycle", cycle_momentum=False), 50, 5)
    for kind, key, kept in (("AdamW", "betas", (0.9, 0.999)), ("SGD", "momentum", 0)):
        inner = getattr(torch.optim, kind)([torch.zeros(1, requires_grad=True)], lr=RATE)
        set_rates(Optimizer(inner, [RATE]), schedule, 3)
        assert inner.param_groups[0][key] == kept
        assert inner.param_groups[0]["lr"] == RATE * schedule(3)


def test_momentum_of_sgd_follows_too():
    inner = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=RATE)
    set_rates(Optimizer(inner, [RATE]), build_schedule(section("one_cycle"), 50, 5), 4)
    assert inner.param_groups[0]["momentum"] == pytest.approx(0.85)


def test_a_floor_lifts_the_end_of_cosine_and_rex():
    plain, lifted = ours("cosine", 40, 4, 41), ours("cosine", 40, 4, 41, floor=0.1)
    assert lifted[:5] == plain[:5]
    assert lifted[5:] == pytest.approx([0.9 * rate + 0.1 * RATE for rate in plain[5:]])
    assert ours("rex", 40, 4, 40, floor=0.1)[-1] == pytest.approx(0.1 * RATE)


@pytest.mark.parametrize("name", ["linear_default_warmup", "one_cycle", "polynomial", "rex"])
def test_rates_equal_axolotl(reference, name):
    record = golden(reference, f"loss/sched_{name}")
    config = record["config"]
    chosen = OptimSection(
        learning_rate=config["learning_rate"],
        schedule=config["lr_scheduler"],
        warmup_steps=config.get("warmup_steps"),
    )
    steps = config["max_steps"]
    schedule = build_schedule(chosen, steps, count_warmup(chosen, steps))
    logged = [line["learning_rate"] for line in record["log"]]
    assert [config["learning_rate"] * schedule(s) for s in range(steps)] == pytest.approx(logged)


def test_one_step_of_warmup_is_two_as_in_axolotl(reference):
    record = golden(reference, "loss/orpo")
    config = record["config"]
    assert config["warmup_steps"] == 1
    chosen = OptimSection(learning_rate=config["learning_rate"], warmup_steps=1)
    schedule = build_schedule(chosen, config["max_steps"], count_warmup(chosen, 6))
    logged = [line["learning_rate"] for line in record["log"]]
    assert [config["learning_rate"] * schedule(s) for s in range(6)] == pytest.approx(logged)


def golden(reference, name):
    for line in (reference / "goldens" / "loss.jsonl").read_text().splitlines():
        if line.startswith(f'{{"id":"{name}"'):
            return json.loads(line)
    raise AssertionError(f"no record {name}")


@pytest.mark.parametrize(
    ("keys", "steps", "warmup"),
    [
        ({"warmup_steps": 5}, 100, 5),
        ({"warmup_steps": 0}, 100, 0),
        ({"warmup_steps": 1}, 100, 2),
        ({"warmup_ratio": 0.1}, 105, 10),
        ({"warmup_ratio": 0.1, "warmup_steps": 3}, 105, 3),
        ({"warmup_ratio": 0.0}, 1000, 0),
        ({}, 10, 0),
        ({}, 40, 2),
        ({}, 200, 6),
        ({}, 100_000, 100),
    ],
)
def test_warmup_steps(keys, steps, warmup):
    assert count_warmup(OptimSection(learning_rate=1.0, **keys), steps) == warmup


def test_the_default_is_three_in_a_hundred():
    assert [default_warmup(n) for n in (1, 33, 34, 67, 3333, 3334, 10**6)] == [
        0,
        0,
        1,
        2,
        99,
        100,
        100,
    ]


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("cosinne", {}, "there is no schedule `cosinne`"),
        ("reduce_lr_on_plateau", {}, "there is no schedule"),
        ("linear", {"num_cycles": 2}, "takes no `num_cycles`"),
        ("cosine_with_min_lr", {}, "one of `min_lr` and `min_lr_rate`"),
        ("cosine_with_min_lr", {"min_lr": 1e-4, "min_lr_rate": 0.1}, "one of"),
        ("polynomial", {"lr_end": 0.1}, "must be below the peak"),
        ("warmup_stable_decay", {}, "num_decay_steps"),
        ("warmup_stable_decay", {"num_decay_steps": 3, "decay_type": "square"}, "`square`"),
        ("one_cycle", {"anneal_strategy": "exp"}, "`exp`"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(name, args, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build_schedule(section(name, **args), 50, 5)
    assert caught.value.hint


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 2), (2, 2), (5, 9)])
def test_short_runs_have_rates(name, steps, warmup):
    args = {
        "cosine_with_min_lr": {"min_lr_rate": 0.1},
        "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1},
        "warmup_stable_decay": {"num_decay_steps": 1},
    }.get(name, {})
    schedule = build_schedule(section(name, **args), steps, warmup)
    assert all(0.0 <= schedule(step) <= 1.0 + 1e-12 for step in range(steps + 3))
