"""Each key's declared readers are the modules that read it: a recorder on the sections says so.

A key that nobody reads would be accepted and do nothing; a reader that is not declared would make
`config explain` lie.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests import smallrun
from tunesmith.config import read
from tunesmith.config.flat import leaves
from tunesmith.config.schema import RunConfig
from tunesmith.config.section import KeyInfo, Section
from tunesmith.launch import local
from tunesmith.runs.watchers import Watchers

Readers = dict[tuple[str, str], set[str]]

RUNS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "lora chat": ("chat_template", {}, smallrun.LORA),
    "full, bf16, recomputed": (
        "chat_template",
        {},
        {"bf16": True, "optimizer": "adamw_torch", "gradient_checkpointing": True},
    ),
    "qlora": ("alpaca", {}, {**smallrun.LORA, "adapter": "qlora", "load_in_4bit": True}),
    "completion": (
        "completion",
        {},
        {**smallrun.LORA, "gradient_accumulation_steps": None, "batch_size": 2},
    ),
    "input_output": ("input_output", {}, smallrun.LORA),
    "inline": (
        "inline",
        {
            "type": {
                "field_instruction": "q",
                "field_output": "a",
                "field_input": "more",
                "system_prompt": "S",
                "format": "{instruction} {input}",
                "no_input_format": "{instruction}",
            }
        },
        smallrun.LORA,
    ),
}
"""Name -> rows, the data set's keys, the run's keys: together they open every door."""

NOT_HERE = {
    "datasets[].name": "only a data set of the hub has one",
    "datasets[].revision": "only a data set of the hub has one",
    "revision_of_model": "only a model of the hub has one",
    "plugins": "read while the config is read",
}
"""Keys whose reader cannot run here, and why."""

READ_WHOLE = "SpecialTokens"
"""A block that its reader takes as a whole (``model_dump``)."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Readers:
    """(section, field) -> the modules that read it, over all runs."""
    seen: Readers = defaultdict(set)

    def watched(self: Section, name: str) -> Any:
        if not name.startswith("_") and name in type(self).model_fields:
            seen[type(self).__name__, name].add(sys._getframe(1).f_globals.get("__name__", ""))
        return object.__getattribute__(self, name)

    folder = tmp_path_factory.mktemp("keys")
    base = smallrun.base(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_CACHE", str(folder / "cache"))
        patch.setattr(local, "SAMPLE_ROWS", 4)  # so that a plan is estimated before the run
        patch.setattr(Section, "__getattribute__", watched, raising=False)
        for number, (rows, dataset, changes) in enumerate(RUNS.values()):
            data = _write(folder, rows)
            keys = smallrun.keys(base, data, **smallrun.full(), val_set_size=2, max_steps=1)
            keys |= {"output_dir": str(folder / f"out-{number}"), "save_steps": 1}
            keys["datasets"] = [{"path": str(data), **smallrun.ROWS[rows][1], **dataset}]
            given = {name: v for name, v in (keys | changes).items() if v is not None}
            config = read.load(given).config
            local.draft(config)
            local.start(config, Watchers())
    return seen


def _write(folder: Path, name: str) -> Path:
    rows = smallrun.ROWS[name][0]
    if name == "inline":
        rows = [*rows, *({**row, "more": "please"} for row in rows[:3])]
    return smallrun.write_rows(folder / f"{name}.jsonl", rows)


def _keys() -> dict[str, tuple[str, str, KeyInfo]]:
    """Flat name -> section class, field, declaration; a block stands once."""
    found = {}
    for flat, leaf in leaves().items():
        if flat.startswith("test_datasets[]"):
            continue  # the same class as an entry of `datasets`
        outer = leaves()[leaf.parent].inner if leaf.parent else None
        owner = outer or RunConfig.model_fields[leaf.section].annotation
        found[flat] = (owner.__name__, leaf.field, leaf.info)
    return found


@pytest.mark.parametrize("flat", sorted(_keys()))
def test_a_key_is_read_by_the_modules_that_it_declares(flat: str, recorded: Readers) -> None:
    section, field, info = _keys()[flat]
    if section == READ_WHOLE:
        assert set(info.readers) <= recorded["TokenizerSection", "special_tokens"]
        return
    readers = {
        module
        for module in recorded[section, field]
        if module.startswith("tunesmith.") and not module.startswith("tunesmith.config.")
    }
    if flat in NOT_HERE:
        assert info.readers
        assert readers <= set(info.readers)
        return
    assert readers == set(info.readers), f"{flat} is read by {sorted(readers)}"
