"""Records of axolotl 0.19.0: their rows, and the renderers that their configs ask for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from tunesmith.config.data import DataSection, DatasetEntry
from tunesmith.data.formats.load import load_format
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.records import Record
from tunesmith.data.render import Renderer, RenderSettings
from tunesmith.data.templates import resolve_template


def records(reference: Path, name: str) -> Iterator[dict[str, Any]]:
    """The records of a file, each under its id without the file's name."""
    path = reference / "goldens" / f"{name}.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines():
        golden = json.loads(line)
        yield {**golden, "id": golden["id"].removeprefix(f"{name}/")}


@lru_cache
def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")


def rows(reference: Path, golden: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows that the record's only data set was made of."""
    (entry,), (numbers,) = golden["config"]["datasets"], golden["lines"]["datasets"]
    root = "goldens" if entry["path"].startswith("derived") else "data"
    lines = _lines(reference / root / entry["path"])
    return [json.loads(lines[number]) for number in numbers]


def entry_of(golden: Mapping[str, Any]) -> DatasetEntry:
    """The record's only data set entry, old names of keys left out."""
    (entry,) = golden["config"]["datasets"]
    return DatasetEntry(**{key: value for key, value in entry.items() if value is not None})


def read_rows(reference: Path, golden: Mapping[str, Any]) -> list[Record]:
    """The record's rows in our reading, under the method that its config names."""
    config = golden["config"]
    method = "reward" if config.get("reward_model") else config.get("rl")
    entry = entry_of(golden)
    read = load_format(entry, method)
    data = DataSection(train_on_inputs=config.get("train_on_inputs", False))
    options = FormatOptions.of(entry, data)
    return [read(row, options) for row in rows(reference, golden)]


class Tokenizers:
    """Tokenizers of the reference data, each saved in its fast form once."""

    def __init__(self, reference: Path, home: Path) -> None:
        self._reference, self._home = reference, home
        self._loaded: dict[str, Any] = {}

    def load(self, name: str) -> Any:
        """The tokenizer ``tokenizers/...``."""
        if name not in self._loaded:
            folder = self._home / name
            AutoTokenizer.from_pretrained(self._reference / "data" / name).save_pretrained(folder)
            self._loaded[name] = AutoTokenizer.from_pretrained(folder)
        return self._loaded[name]

    def renderer(self, config: Mapping[str, Any], *, templated: bool) -> Renderer:
        """The renderer of a config, with its chat template where it needs one."""
        tokenizer = self.load(config["base_model"])
        chosen = None
        if templated:
            chosen = resolve_template(tokenizer.chat_template, config.get("chat_template"), None)
        specials = tokenizer.special_tokens_map.items()
        return Renderer(
            RenderSettings(
                str(tokenizer.name_or_path),
                "digest",
                config["sequence_len"],
                template=chosen,
                special_tokens={key: text for key, text in specials if isinstance(text, str)},
                eos_id=tokenizer.eos_token_id,
                eos_text=tokenizer.eos_token or "",
            )
        )
