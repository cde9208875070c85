"""Files of a folder that are not read are found in the accounts."""

from __future__ import annotations

from pathlib import Path

from tests.unit.data.toys import alpaca_rows, request, write_jsonl
from tunesmith.config.data import DatasetEntry
from tunesmith.data.prepare import prepare


def test_a_file_that_is_added_and_not_read_is_told_anew(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", alpaca_rows(5))
    asked = request([DatasetEntry(path=str(folder), type="alpaca")], tmp_path)
    assert prepare(asked).lint == []
    write_jsonl(folder / "extra.jsonl", alpaca_rows(5))
    after = prepare(asked)
    assert not after.from_cache
    assert [lint.code for lint in after.lint] == ["left-out-files"]
    assert "1 of 2 files are not read: extra.jsonl (no split) (" in after.ledger.summary()[-1]
