"""Each key's declared readers are the modules that read it: a recorder on the sections says so.

A key that nobody reads would be accepted and do nothing; a reader that is not declared would make
`config explain` lie.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from tests import smallrun
from tunesmith.config import read
from tunesmith.config.data import DataSection, DatasetEntry
from tunesmith.config.flat import leaves
from tunesmith.config.inline import InlineFormat
from tunesmith.config.schema import RunConfig
from tunesmith.config.section import KeyInfo, Section
from tunesmith.data.formats.options import FormatOptions
from tunesmith.launch import local
from tunesmith.registry import registry
from tunesmith.runs.watchers import Watchers

Readers = dict[tuple[str, str], set[str]]

RUNS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "lora chat": ("chat_template", {}, smallrun.LORA),
    "full, bf16, recomputed": (
        "chat_template",
        {},
        {
            "bf16": True,
            "optimizer": "adamw_torch",
            "gradient_checkpointing": True,
            "loss_watchdog_threshold": 1e6,
        },
    ),
    "qlora": ("alpaca", {}, {**smallrun.LORA, "adapter": "qlora", "load_in_4bit": True}),
    "completion": (
        "completion",
        {},
        {
            **smallrun.LORA,
            "gradient_accumulation_steps": None,
            "batch_size": 2,
            "dataset_shard_num": 2,
        },
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
    "stream": (
        "chat_template",
        {},
        {**smallrun.LORA, "streaming": True, "val_set_size": None, "shuffle_merged_datasets": True},
    ),
    "drawn": ("chat_template", {"type": "_synthetic", "length": 12, "max_input_id": 250}, {}),
}
"""Name -> rows, the data set's keys, the run's keys: together they open every door."""

JUDGED = {"prompt": "Say sun", "chosen": "sun", "rejected": "moon", "completion": "sun"}
INLINE_FORMATS = ("dpo.inline", "kto.inline")
"""Formats that read a ``type`` that is a mapping and whose rows no objective trains yet."""

NOT_HERE = {
    "datasets[].name": "only a data set of the hub has one",
    "datasets[].revision": "only a data set of the hub has one",
    "revision_of_model": "only a model of the hub has one",
    "plugins": "read while the config is read",
}
"""Keys whose reader cannot run here, and why."""

ELSEWHERE = frozenset({"tunesmith.data.hub"})
"""A reader that only the hub's data sets have: declared, and not seen here."""

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
        for name in INLINE_FORMATS:
            _read_row(name)
    return seen


def _read_row(name: str) -> None:
    """Read one row by a format that no run can use yet."""
    entry = DatasetEntry(path="a", type=InlineFormat(field_prompt="prompt"))
    read_row: Any = registry("formats").load(name)
    read_row({**JUDGED, "label": True}, FormatOptions.of(entry, DataSection()))


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


def complaint(flat: str, declared: Collection[str], recorded: Readers) -> str:
    """What is wrong with the readers that a key declares; "" where they are those that read it."""
    section, field, _ = _keys()[flat]
    if section == READ_WHOLE:
        section, field = "TokenizerSection", "special_tokens"
    seen = {
        module
        for module in recorded[section, field]
        if module.startswith("tunesmith.") and not module.startswith("tunesmith.config.")
    }
    if not declared:
        return f"{flat} declares no reader; it is read by {sorted(seen)}"
    wrong = set() if flat in NOT_HERE else set(declared) - ELSEWHERE - seen
    silent = seen - set(declared)
    parts = [f"is not read by {sorted(wrong)}"] if wrong else []
    parts += [f"is read by {sorted(silent)} too"] if silent else []
    return f"{flat} {' and '.join(parts)}" if parts else ""


@pytest.mark.parametrize("flat", sorted(_keys()))
def test_a_key_is_read_by_the_modules_that_it_declares(flat: str, recorded: Readers) -> None:
    assert complaint(flat, _keys()[flat][2].readers, recorded) == ""


@pytest.mark.parametrize("flat", sorted(set(_keys()) - set(NOT_HERE)))
def test_a_false_declaration_is_found(flat: str, recorded: Readers) -> None:
    readers = _keys()[flat][2].readers
    assert "is not read by" in complaint(flat, (*readers, "tunesmith.nobody"), recorded)
    assert "declares no reader" in complaint(flat, (), recorded)
    here = [reader for reader in readers if reader not in ELSEWHERE]
    for left_out in here if len(readers) > 1 else ():
        rest = [reader for reader in readers if reader != left_out]
        assert f"is read by ['{left_out}'] too" in complaint(flat, rest, recorded)


def test_the_exceptions_are_keys() -> None:
    assert set(NOT_HERE) <= set(_keys())
