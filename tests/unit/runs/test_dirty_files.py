"""Every broken file of the reference folder through the whole command, judged by its table."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.smallrun import ground, keys, write_yaml
from tunesmith.cli.main import run

__all__ = ["ground"]

SHAREGPT = {
    "type": "chat_template",
    "field_messages": "conversations",
    "message_property_mappings": {"role": "from", "content": "value"},
}
CHAT = {"type": "chat_template"}
FORMS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "alpaca": ({"type": "alpaca"}, {}),
    "mixed": ({"type": "alpaca"}, {}),
    "any": ({"type": "alpaca"}, {}),
    "messages": (CHAT, {}),
    "messages+tools": (CHAT, {"chat_template": "qwen3"}),
    "sharegpt": (SHAREGPT, {}),
    "preference": ({"type": "dpo"}, {"rl": "dpo"}),
    "preference (messages)": ({"type": "chat_template.argilla_chat"}, {"rl": "dpo"}),
    "kto": ({"type": "kto"}, {"rl": "kto"}),
    "stepwise": ({"type": "stepwise_supervised"}, {"process_reward_model": True}),
    "multimodal": (CHAT, {}),
    "multimodal (tags)": (CHAT, {}),
    "(file)": (CHAT, {}),
}
"""The form of a file -> the keys of its data set and of the config."""

READ_ALL_THE_SAME = {
    # The table leaves the choice, and all rows are there: read from their bytes,
    "bytes_cr_only.jsonl": 6,
    "file_gzip_under_jsonl_name.jsonl": 6,
    # as turns that are JSON in a text, which axolotl reads too,
    "chat_messages_as_string.jsonl": 5,
    # and with a finding.
    "tool_result_without_call.jsonl": 4,
}
SILENT = {
    "json_big_int.jsonl",  # nothing of that column is used
    "json_array_under_jsonl_name.jsonl",  # read as the array that it is
}
"""Warnings of the table that have nothing to warn about here."""

ROW = re.compile(r"(?:rows|row|lines?|:)\D{0,2}(\d+)")


def cases(reference: Path) -> list[dict[str, Any]]:
    text = (reference / "data" / "dirty" / "manifest.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_every_file_ends_as_its_table_says(
    reference: Path,
    ground: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    table = cases(reference)
    assert len(table) == 105
    wrong = {}
    for case in table:
        path = reference / "data" / "dirty" / case["file"]
        entry, more = FORMS[case["form"]]
        config = keys(ground / "base", path, sequence_len=8192, sample_packing=False, **more)
        config["datasets"] = [{"path": str(path), **entry}]
        code = run(["preprocess", str(write_yaml(tmp_path, config))])
        said = capsys.readouterr()
        if complaint := judge(case, code, said.out, said.err):
            wrong[case["file"]] = (complaint, code, said.out, said.err)
    assert not wrong, json.dumps(wrong, indent=1, ensure_ascii=False)


def judge(case: Mapping[str, Any], code: int, out: str, err: str) -> str:
    """What is wrong with how a file was handled, "" where nothing is."""
    if "Traceback" in err or code not in (0, 2):
        return "it broke the command"
    if case["file"] in READ_ALL_THE_SAME:
        return "" if n_rows(out) == READ_ALL_THE_SAME[case["file"]] else "rows are missing"
    if case["expect"] == "accept":
        return "" if (code, n_rows(out)) == (0, case["good_rows"]) else "not accepted whole"
    if case["expect"] == "error" or code == 2:
        return _refused(case, code, err)
    if case["file"] in SILENT:
        return "" if n_rows(out) >= case["good_rows"] else "rows are missing"
    told = [line for line in out.splitlines() if " x " in line or "dropped" in line]
    if not told:
        return "no warning"
    return "" if _names_the_row(case, "\n".join(told)) else "the warning names another row"


def _refused(case: Mapping[str, Any], code: int, err: str) -> str:
    if code != 2:
        return "not refused"
    if case["file"].split(".")[0] not in err:
        return "the file is not named"
    if "fix: " not in err:
        return "no fix"
    return "" if _names_the_row(case, err) else "the row is not named"


def _names_the_row(case: Mapping[str, Any], text: str) -> bool:
    """Whether the text names the (first) row of the table, for files in which one is wrong."""
    wanted = re.match(r"lines? (\d+)", case["where"])
    is_whole = case["file"] in ("csv_no_header.csv", "csv_unclosed_quote.csv")
    if wanted is None or is_whole:
        return True
    return wanted.group(1) in {found.group(1) for found in ROW.finditer(text)}


def n_rows(out: str) -> int:
    """The rows of the ledger's first account."""
    found = re.search(r": ([\d,]+) rows, ", out)
    return int(found.group(1).replace(",", "")) if found else 0
