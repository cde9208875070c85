"""``preprocess --html``: the page holds the rows, masks, packing and ledger of the run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.smallrun import ground, keys, write_yaml
from tunesmith.cli.main import run

__all__ = ["ground"]


def embedded(path: Path) -> dict[str, Any]:
    found = re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.S)
    assert found
    data: dict[str, Any] = json.loads(found.group(1))
    return data


def test_the_page_agrees_with_the_ledger_and_the_packing(
    ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = write_yaml(tmp_path, keys(ground / "base", ground / "chat_template.jsonl"))
    assert run(["preprocess", str(config), "--html", "page.html", "--show", "24"]) == 0
    data = embedded(tmp_path / "page.html")
    tokens = [token for row in data["rows"] for part in row["parts"] for token in part["tokens"]]
    account = data["ledger"]["datasets"][0]
    assert len(data["rows"]) == account["rows"]["in"] == 24
    assert len(tokens) == account["tokens"]["in"]
    assert sum(token[2] > 0 for token in tokens) == account["tokens"]["trained"]
    packed = [document for row in data["packing"] for document in row["documents"]]
    assert sum(document["length"] for document in packed) == account["tokens"]["in"]
    assert sum(document["trained"] for document in packed) == account["tokens"]["trained"]
    by_source = {row["source"]: row["parts"][0]["tokens"] for row in data["rows"]}
    for document in packed:
        shown = by_source[document["source"]]
        assert document["ids"] == [token[1] for token in shown]
        weights = [0.0] * document["length"]
        for start, end, weight in document["runs"]:
            weights[start:end] = [weight] * (end - start)
        assert weights == [token[2] for token in shown]
        assert [data["texts"][str(token[1])] for token in shown] == [token[0] for token in shown]


def test_another_config_stands_beside(
    ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = keys(ground / "base", ground / "chat_template.jsonl")
    mine = write_yaml(tmp_path, config)
    other = write_yaml(tmp_path, {**config, "train_on_inputs": True}, "other.yaml")
    words = ["preprocess", str(mine), "--html", "page.html", "--against", str(other)]
    assert run(words) == 0
    row = embedded(tmp_path / "page.html")["rows"][0]
    titles = [part["title"] for part in row["parts"]]
    assert titles == ["this config", str(other)]
    differing = [token for part in row["parts"] for token in part["tokens"] if token[4]]
    assert differing
    assert {token[2] > 0 for token in row["parts"][1]["tokens"] if token[4]} == {True}


def test_a_comparison_needs_a_page(ground: Path, tmp_path: Path) -> None:
    config = write_yaml(tmp_path, keys(ground / "base", ground / "chat_template.jsonl"))
    assert run(["preprocess", str(config), "--against", str(config)]) == 2
