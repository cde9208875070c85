"""The benchmark's own arithmetic: shapes, work, documents, medians."""

from __future__ import annotations

import json

import pytest
from transformers import AutoConfig

from benchmarks.gpu.compare import WARM, Spec, show, summary
from benchmarks.gpu.shapes import SHAPES, WORKS, document_lengths, mean_keys
from tunesmith.models.facts import read_facts
from tunesmith.models.footprint import count_parameters


@pytest.mark.parametrize("name", ["8b", "1.7b", "0.6b"])
def test_shapes_are_those_of_the_models_they_are_named_after(name):
    shape = SHAPES[name]
    config = AutoConfig.for_model(shape.model_type, **shape.config())
    billions = count_parameters(read_facts(config)) / 1e9
    assert billions == pytest.approx({"8b": 8.03, "1.7b": 1.72, "0.6b": 0.596}[name], rel=0.01)
    lookup = 0 if shape.tie_word_embeddings else shape.vocab_size * shape.hidden_size
    assert shape.multiplied / 1e9 == pytest.approx(billions - lookup / 1e9, rel=0.01)


def test_frozen_matrices_need_two_thirds_of_the_work():
    full, lora = WORKS["full-8b"], WORKS["lora-8b"]
    assert lora.flops(0) / full.flops(0) == pytest.approx(2 / 3)
    assert full.flops(1000) - full.flops(0) == 12 * 32 * 4096 * 1000


def test_documents_fill_the_steps_and_fit_a_row():
    lengths = document_lengths(100_000, 2048, seed=1)
    assert 100_000 <= sum(lengths) < 100_000 + 2048
    assert max(lengths) <= 2048
    assert lengths == document_lengths(100_000, 2048, seed=1)
    assert mean_keys([3]) == 2.0


def test_the_rate_is_the_median_after_the_warm_steps(tmp_path):
    path = tmp_path / "steps.jsonl"
    seconds = [60.0, 9, 9, 9, 9, 0.5, 0.4, 0.6]
    assert WARM == 5
    lines = [
        {"step": n, "seconds": s, "tokens": 1000, "since_start": 7.0}
        for n, s in enumerate(seconds, start=1)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    found = summary(WORKS["full-tiny"], path)
    assert found["tokens_per_second"] == 2000
    assert found["step_ms"] == 500
    assert found["first_step_s"] == 7.0


def test_a_run_without_warm_steps_is_a_failure_and_says_so(tmp_path):
    path = tmp_path / "steps.jsonl"
    path.write_text(json.dumps({"step": 1, "seconds": 1, "tokens": 1, "since_start": 1}))
    result = {"run": "ours", "work": "full-tiny", "exit": 1} | summary(WORKS["full-tiny"], path)
    assert "FAILED: 1, 1 steps" in show(result)


def test_settings_become_keys(tmp_path):
    spec = Spec("ours:torch_compile=false;profile=1")
    command = spec.command(WORKS["full-tiny"], tmp_path, tmp_path, tmp_path, 3)
    assert command[-3:] == ["--set", "torch_compile=false", "--profile"]
