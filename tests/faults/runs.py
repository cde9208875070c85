"""Small whole runs to put faults into: packed, with dropout, held-out data and rotation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests import smallrun, warm
from tests.smallrun import full, keys

METHODS: dict[str, dict[str, Any]] = {
    "lora": {"lora_dropout": 0.1},
    "qlora": {"adapter": "qlora", "load_in_4bit": True, "lora_dropout": 0.1},
    # The base has dropout of its own, so that a full fine-tuning draws random numbers as well.
    "full": full(overrides_of_model_config={"attention_dropout": 0.1}),
}


def config(ground: Path, name: str, **changes: Any) -> dict[str, Any]:
    """Flat keys: twelve steps, a save every third, one kept beside the newest."""
    data = ground / "chat_template.jsonl"
    usual = {"max_steps": 12, "save_steps": 3, "save_total_limit": 2, "val_set_size": 0.2}
    usual |= {"eval_steps": 5}
    return keys(ground / "base", data, **{**usual, **METHODS[name], **changes})


def assert_ends_as(folder: Path, path: Path, expected: Path, *words: str) -> str:
    """The same command ends as if nothing had been; what it said on stdout."""
    again = warm.run(folder, "train", path, *words)
    assert (again.code, again.err) == (0, "")
    assert smallrun.weights(folder / "out") == smallrun.weights(expected)
    records = [json.loads((f / "tunesmith.json").read_text()) for f in (folder / "out", expected)]
    for record in records:
        del record["files"]["README.md"]  # it quotes the config
    differing = {k: (v, records[1].get(k)) for k, v in records[0].items() if v != records[1].get(k)}
    assert not differing, differing
    left = [p.name for p in (folder / "out").iterdir() if p.name.startswith(".")]
    assert left == [".tunesmith.lock"]
    return " ".join(again.out.split())
