"""Whole preparations, config to tokens, against axolotl 0.19.0 for every type but chat templates.

Rows of chat templates have a test of their own (`tests/unit/data/test_goldens.py`), which explains
each token that differs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.data.formats.goldens import Tokenizers, records
from tunesmith.config import read
from tunesmith.config.schema import RunConfig
from tunesmith.data.cache import PreparedSplit
from tunesmith.data.prepare import Prepared, PrepareRequest, prepare
from tunesmith.errors import DataError
from tunesmith.objectives.sft import Sft
from tunesmith.runs.prepare import keep_tokenizer, render_settings

EQUAL_AT_LEAST = 40
"""Records; one that can no longer be compared must not pass unseen."""

DRAWN = {"val_set_size", "shuffle_before_merging_datasets", "shuffle_merged_datasets"}
"""Keys by which axolotl draws rows with another generator: these are compared without order."""

Row = tuple[tuple[int, ...], tuple[int, ...]]
"""Ids, and the positions that train; the first token, which nothing predicts, never does."""


def others(reference: Path) -> Iterator[dict[str, Any]]:
    for golden in records(reference, "render"):
        types = {str(entry["type"]) for entry in golden["config"]["datasets"]}
        if not types & {"chat_template", "sharegpt"}:
            yield golden


def written(reference: Path, golden: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """The record's config with data sets of just the lines that it names."""
    config = json.loads(json.dumps(golden["config"])) | {"output_dir": str(home / "out")}
    for key, chosen in golden["lines"].items():
        for number, (entry, lines) in enumerate(zip(config[key], chosen, strict=True)):
            path = Path("goldens" if entry["path"].startswith("derived") else "data")
            whole = (reference / path / entry["path"]).read_text(encoding="utf-8").split("\n")
            file = home / key / str(number) / Path(entry["path"]).name
            file.parent.mkdir(parents=True)
            file.write_text("".join(f"{whole[line]}\n" for line in lines), encoding="utf-8")
            entry["path"] = str(file)
    return config


def prepared(config: RunConfig, tokenizer: Any, home: Path) -> Prepared:
    """What the config's data becomes, made in this process."""
    kept = keep_tokenizer(tokenizer)
    entries = (*config.data.datasets, *config.data.test_datasets)
    settings = tuple(render_settings(config, entry, tokenizer, kept) for entry in entries)
    objective = Sft()
    return prepare(
        PrepareRequest(
            data=config.data,
            packing=config.packing,
            settings=settings,
            weigh=objective.weights,
            weigh_version="1",
            seed=config.batch.seed,
            cache_dir=home / "cache",
            workers=0,
        )
    )


def ours(split: PreparedSplit | None) -> list[Row]:
    rows = []
    for number in range(0 if split is None else len(split)):
        sample = split[number]
        trained = [at for start, end, _ in sample.runs for at in range(start, end)]
        rows.append((tuple(sample.input_ids.tolist()), tuple(trained)))
    return rows


def theirs(golden: Mapping[str, Any], key: str) -> list[Row]:
    """axolotl keeps rows of which nothing trains; here they are dropped, with a ledger line."""
    rows = []
    for row in golden.get(key, ()):
        trained = tuple(at for start, end in row["train"] for at in range(start, end) if at > 0)
        if trained:
            rows.append((tuple(row["input_ids"]), trained))
    return rows


@pytest.fixture(scope="module")
def tokenizers(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizers:
    return Tokenizers(reference, tmp_path_factory.mktemp("tokenizers"))


def test_rows_are_axolotls_to_the_token(
    reference: Path, tokenizers: Tokenizers, tmp_path: Path
) -> None:
    different = {}
    equal = 0
    for number, golden in enumerate(others(reference)):
        home = tmp_path / str(number)
        config = read.load(written(reference, golden, home)).config
        tokenizer = tokenizers.load(golden["config"]["base_model"])
        if "error" in golden:
            with pytest.raises(DataError, match="more than sequence_len"):
                prepared(config, tokenizer, home)
            continue
        made = prepared(config, tokenizer, home)
        train, held_out = ours(made.train), ours(made.held_out)
        expected, expected_out = theirs(golden, "out"), theirs(golden, "out_eval")
        if DRAWN & {key for key, value in golden["config"].items() if value}:
            found, wanted = Counter(train + held_out), Counter(expected + expected_out)
        else:
            found, wanted = [train, held_out], [expected, expected_out]
        if found == wanted:
            equal += 1
        else:
            different[golden["id"]] = (len(train), len(expected))
    assert different == {}
    assert equal >= EQUAL_AT_LEAST
