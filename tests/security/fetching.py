"""What a process fetches from the hub of the environment, as JSON: run by ``test_one_commit``."""

from __future__ import annotations

import json
import sys
from typing import Any

from tunesmith.config.data import DatasetEntry
from tunesmith.config.model import ModelSection
from tunesmith.config.tokenizer import TokenizerSection
from tunesmith.data.sources import locate as locate_data
from tunesmith.data.sources import open_rows
from tunesmith.errors import TunesmithError
from tunesmith.models.load import read_config
from tunesmith.models.source import locate
from tunesmith.models.tokenizer import load_tokenizer


def model(name: str, **keys: Any) -> dict[str, Any]:
    base = locate(ModelSection(base=name, **keys))
    config = read_config(base)
    tokenizer = load_tokenizer(base, TokenizerSection())
    return {
        "commit": base.to_json()["commit"],
        "files": sorted(path.name for path in base.path.rglob("*")),
        "eps": config.rms_norm_eps,
        "template": tokenizer.chat_template,
    }


def settings(name: str, tokenizer: str) -> dict[str, Any]:
    base = locate(ModelSection(base=name))
    return {"template": load_tokenizer(base, TokenizerSection(path=tokenizer)).chat_template}


def data(name: str, **keys: Any) -> dict[str, Any]:
    entry = DatasetEntry(path=name, **keys)
    location = locate_data(entry)
    rows = [dict(row) for _, row in open_rows(entry, 0, location)]
    return {"commit": location.commit, "rows": rows}


def main() -> None:
    """Do each of the calls in the arguments, and print what came of it."""
    for call, words, keys in json.loads(sys.argv[1]):
        try:
            said = {"model": model, "settings": settings, "data": data}[call](*words, **keys)
        except TunesmithError as error:
            said = {"code": int(error.exit_code), "error": error.message, "hint": error.hint}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
