"""Whole runs against the loop by hand: losses, held-out loss, rates, norms and final weights."""

from __future__ import annotations

import pytest

from tests.reference.loop import read_rows, tokenize
from tests.reference.parts import KINDS, LAYOUTS, make_config, mismatches, run_ours

HELD_OUT_FALLS_BY = 0.2


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_the_loop_by_hand(ground, by_hand, tmp_path, kind, layout):
    config = make_config(ground, tmp_path / "out", kind=kind, layout=layout)
    ours, steps, adapter = run_ours(config)
    reference = by_hand(config, ground.base, steps, adapter)
    assert mismatches(ours, reference) == []
    first, last = ours.held_out[0], ours.held_out[config["max_steps"]]
    assert first - last >= HELD_OUT_FALLS_BY
    # Clipping and the schedule are at work, so that agreeing on them says something.
    assert max(ours.norms) > 2 * config["max_grad_norm"]
    assert len({*ours.rates}) >= 4


def test_packing_and_accumulation_are_what_the_names_say(ground, tmp_path):
    from tunesmith.launch import api

    documents = {}
    for layout in LAYOUTS:
        config = make_config(ground, tmp_path / "out", kind="lora", layout=layout)
        plan = api.plan(config)
        packed, _, accumulation = LAYOUTS[layout]
        assert (plan.packing.value, plan.accumulation.value) == (packed, accumulation)
        documents[layout] = [len(rows) for rows in api.steps(config, config["max_steps"])]
    # Most rows must share their bin, or packing would be tested by nothing.
    assert min(documents["packed, accumulation 4"]) >= 2 * 4
    assert documents["packed, accumulation 4"] == documents["packed, accumulation 1"]


def test_no_row_is_too_long_for_either_side(ground):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ground.base)
    rows = [*read_rows(ground.train).values(), *read_rows(ground.held_out).values()]
    lengths = [tokenize(row, tokenizer)[0].shape[1] for row in rows]
    assert max(lengths) <= 128
    assert len({*lengths}) >= 6
