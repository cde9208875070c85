"""Broken rows of preferences and steps in files: each is named, or read with a finding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunesmith.config.data import DataSection, DatasetEntry
from tunesmith.data.formats.lint import lint_record
from tunesmith.data.formats.load import load_format
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.records import RowError

REFUSED = {
    "pref_missing_rejected": ("dpo", 3, "rejected"),
    "pref_empty_chosen": ("dpo", 3, "chosen"),
    "pref_prompts_differ": ("dpo.chat_template.argilla_chat", 3, "rejected"),
    "kto_label_is_string": ("kto", 3, "label"),
    "prm_lengths_differ": ("stepwise_supervised", 2, "labels"),
    "prm_label_is_number": ("stepwise_supervised", 2, "labels[0]"),
    "prm_no_steps": ("stepwise_supervised", 2, "completions"),
}


def outcomes(reference: Path, name: str, kind: str) -> dict[int, RowError | list[str]]:
    """What each line of a file becomes: an error, or the codes of its findings."""
    entry = DatasetEntry(path="x", type=kind)
    read, options = load_format(entry), FormatOptions.of(entry, DataSection())
    found: dict[int, RowError | list[str]] = {}
    path = reference / "data/dirty" / f"{name}.jsonl"
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = read(json.loads(line), options)
            found[number] = [lint.code for lint in lint_record(record)]
        except RowError as error:
            found[number] = error
    return found


@pytest.mark.parametrize("name", REFUSED)
def test_the_broken_row_alone_is_refused_at_its_field(reference: Path, name: str) -> None:
    kind, line, field = REFUSED[name]
    found = outcomes(reference, name, kind)
    errors = {number: each for number, each in found.items() if isinstance(each, RowError)}
    assert errors.keys() == {line}
    assert errors[line].field == field
    assert len(found) > 1


def test_equal_answers_are_a_finding(reference: Path) -> None:
    found = outcomes(reference, "pref_identical", "dpo")
    assert {number for number, each in found.items() if each} == {3}
    assert found[3] == ["identical-answers"]
