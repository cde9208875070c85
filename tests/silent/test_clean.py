"""No alarm on a hundred clean runs: `train` with every probe on, to its end."""

from __future__ import annotations

import pytest

from tests.silent.cells import CELLS, QUICK
from tunesmith.data.templates import TEMPLATE_NAMES
from tunesmith.runs.preflight.check import PROBES

MARKED = [
    pytest.param(cell, id=cell.name, marks=[] if cell.name in QUICK else [pytest.mark.slow])
    for cell in CELLS
]


@pytest.mark.parametrize("cell", MARKED)
def test_no_probe_alarms(attempts, family_base, cell):
    base = family_base(cell.family)
    told = attempts.train(rows=cell.rows, base_model=base, **cell.changes)
    assert told.error is None, told.text
    assert told.trained
    seen = [line.split(":")[0] for line in told.lines]
    assert [name for name in PROBES if name not in seen] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", TEMPLATE_NAMES)
def test_no_probe_of_turns_alarms_on_a_shipped_template(attempts, name):
    """Its marks are plain text to the small tokenizer, so that ends are not asked for."""
    asked = ("conservation", "cache", "turns", "serving")
    told = attempts.train(
        chat_template=name,
        special_tokens={"bos_token": "<|endoftext|>"},
        sequence_len=4096,
        max_steps=1,
        preflight_skip=[probe for probe in PROBES if probe not in asked],
    )
    assert told.error is None, told.text
    assert told.trained


def test_there_are_a_hundred_and_the_quick_ones_are_among_them():
    names = [cell.name for cell in CELLS]
    assert len(set(names)) >= 100
    assert set(names) >= QUICK
