"""What a reference said beforehand: when it is asked, of whom, and what it is compared with."""

from __future__ import annotations

import json
import shutil
from typing import get_args

import numpy as np
import pytest

from tests.golden.test_preference import config_of, remove, run
from tests.smallrun import full
from tunesmith.config.preflight import ProbeName
from tunesmith.config.read import load
from tunesmith.errors import ProbeError
from tunesmith.launch import local
from tunesmith.runs import assemble
from tunesmith.runs.evaluate import evaluate
from tunesmith.runs.watchers import Watchers

FULL_BEFOREHAND = {
    "micro_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "max_steps": 2,
    "save_steps": 1,
    "val_set_size": 2,
    "precompute_ref_log_probs": True,
    **full(learning_rate=3e-3),
}


def kept_in(folder):
    return sorted((folder / "cache/references").glob("*/reference.json"))


def test_another_config_of_the_base_is_asked_anew(ground, tmp_path):
    base = shutil.copytree(ground / "base", tmp_path / "base")
    changes = FULL_BEFOREHAND | {"base_model": str(base), "val_set_size": None, "max_steps": 1}
    run(tmp_path, ground, "dpo", **changes, output_dir="one")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"transformers_version": "0.0.0"}))
    run(tmp_path, ground, "dpo", **changes, output_dir="two")
    assert len(kept_in(tmp_path)) == 1
    (base / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    run(tmp_path, ground, "dpo", **changes, output_dir="three")
    assert len(kept_in(tmp_path)) == 2


def test_a_second_model_is_loaded_only_to_ask(ground, tmp_path, monkeypatch):
    """A resumed run finds what was said; evaluating asks about the held-out rows alone."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    config = load(config_of(tmp_path, ground, "dpo", **FULL_BEFOREHAND)).config
    told = []
    local.start(config, Watchers(preparing=lambda *facts: told.append(facts)))
    assert ("asking the reference", 6, 6) in told
    assert ("asking the reference", 2, 2) in told
    loads = []
    real = assemble._frozen
    monkeypatch.setattr(assemble, "_frozen", lambda *given: loads.append(given) or real(*given))
    for name in ("checkpoint-2", "model.safetensors", "tunesmith.json"):
        remove(tmp_path / "out" / name)
    local.start(config, Watchers())
    assert loads == []
    remove(tmp_path / "cache/references")
    evaluate(config)
    assert len(loads) == len(kept_in(tmp_path)) == 1


def test_the_preflight_compares_with_what_was_kept(ground, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    skip = [name for name in get_args(ProbeName) if name != "answers"]
    changes = FULL_BEFOREHAND | {"preflight_skip": skip}
    config = load(config_of(tmp_path, ground, "dpo", **changes)).config
    local.rehearse(config, Watchers())
    for folder in kept_in(tmp_path):
        values = np.load(folder.with_name("own.npy"))
        np.save(folder.with_name("own.npy"), values - 0.1)
    with pytest.raises(
        ProbeError, match=r"the reference is not the policy: 0\.1 a token"
    ) as caught:
        local.rehearse(config, Watchers())
    assert "rows.jsonl:" in str(caught.value.where)
    assert "cache" in caught.value.hint
