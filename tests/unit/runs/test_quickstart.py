"""The parts of the quickstart that need no real model."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunesmith.report.comparison import comparison_lines
from tunesmith.runs import quickstart as runs
from tunesmith.runs.tiny_model import make_tiny_model
from tunesmith.serve.chat import load_speaker

FILES = sorted(runs.DATA.glob("*.jsonl"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"), FILES)


def test_the_split_is_by_hash_and_nothing_is_on_both_sides() -> None:
    rows = [
        json.loads(line)["messages"][0]["content"]
        for line in (runs.DATA / "support_desk_train.jsonl").read_text().splitlines()
    ]
    asked = [prompt.text for prompt in runs.held_out_prompts()]
    assert len(asked) >= 24
    assert not set(rows) & set(asked)
    for text, is_held_out in [(t, False) for t in rows] + [(t, True) for t in asked]:
        number = int(hashlib.sha256(text.encode()).hexdigest(), 16)
        assert (number % 6 == 0) == is_held_out


def test_the_bootstrap_interval_is_numpys() -> None:
    gains = [1.0] * 30 + [0.0] * 12 + [-1.0] * 3
    low, high = runs.bootstrap(gains)
    draws = np.random.default_rng(1).choice(gains, (20_000, len(gains))).mean(1)
    assert low == pytest.approx(np.percentile(draws, 2.5), abs=0.03)
    assert high == pytest.approx(np.percentile(draws, 97.5), abs=0.03)


def test_the_loss_on_general_text_is_that_of_plain_transformers(tiny: Path) -> None:
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(tiny),
        AutoTokenizer.from_pretrained(tiny),
    )
    total, count = 0.0, 0
    for line in (runs.DATA / "general_text.jsonl").read_text().splitlines():
        ids = tokenizer(json.loads(line)["text"], return_tensors="pt").input_ids
        with torch.no_grad():
            logps = F.log_softmax(model(ids).logits.double(), -1)
        total -= float(logps[0, :-1].gather(-1, ids[0, 1:, None]).sum())
        count += ids.shape[1] - 1
    assert runs.general_loss(load_speaker(tiny)) == pytest.approx(total / count, abs=1e-5)


def test_the_tiny_model_is_the_same_every_time(tiny: Path, tmp_path: Path) -> None:
    again = make_tiny_model(tmp_path, FILES)
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (again / name).read_bytes() == (tiny / name).read_bytes(), name


def test_only_letters_that_are_all_right_count(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = runs.held_out_prompts()[:3]
    said = [f" {prompts[0].expected}\n", prompts[1].expected.lower() + "!", ""]
    monkeypatch.setattr(runs, "answer", lambda *args, **kwargs: said)
    score = runs.score(tiny, prompts)
    assert score.correct == (True, False, False)
    assert score.exact_match == pytest.approx(1 / 3)


def test_the_comparison_says_what_it_measured() -> None:
    prompts = runs.held_out_prompts()[:2]
    before = runs.Score(("Well, ...", "I think"), (False, False), 3.0)
    after = runs.Score((prompts[0].expected, "no"), (True, False), 3.04)
    lines = list(comparison_lines(runs.Comparison(prompts, before, after)))
    assert any("0 of 2 before, 1 of 2 after: +50 points" in line for line in lines)
    assert any("3.000 before, 3.040 after (+0.040)" in line for line in lines)
    assert any(f"wrong, {prompts[1].expected!r} is right" in line for line in lines)
