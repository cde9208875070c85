"""Rendered data sets to one prepared folder: which rows train, which are held out, and the ledger.

Nothing is copied: the folder names the shards of the data sets and holds sample numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.data.cache import HELD_OUT, TRAIN
from tunesmith.data.facts import PREPARED, write_facts
from tunesmith.data.holdout import HoldOut
from tunesmith.data.kept import ROW, KeptRows, Sides, choose_sides, note_copies, settle
from tunesmith.data.ledger import Account, Ledger
from tunesmith.data.shards import ReadShard
from tunesmith.errors import DataError, TunesmithError

LEDGER = "ledger.json"


@dataclass(frozen=True, slots=True)
class MergeRule:
    """What is done with the rows of all data sets together.

    ``shard`` is (number, of how many) of the run's part; ``test`` marks held-out data sets.
    ``may_be_empty`` lets everything be dropped.
    """

    test: tuple[bool, ...]
    held_out: HoldOut
    drop_copies: bool
    shard: tuple[int, int]
    may_be_empty: bool = False


@dataclass(frozen=True, slots=True)
class RenderedSet:
    """A data set's name and shards; ``place`` is its folder as seen from the prepared one."""

    name: str
    place: str
    shards: tuple[ReadShard, ...]


def merge(
    folder: Path, sets: Sequence[RenderedSet], rule: MergeRule, recipe: Mapping[str, Any]
) -> None:
    """Fill the folder; ``recipe`` is kept beside the numbers.

    Raises:
        DataError: nothing is left to train on, or all of it would be held out.
    """
    ledger = _ledger(sets)
    kept = _kept_rows(sets)
    is_test = np.asarray(rule.test, dtype=np.bool_)[kept.datasets]
    sides = choose_sides(
        kept, is_test, rule.held_out, drop_copies=rule.drop_copies, shard=rule.shard
    )
    note_copies(kept, sides, is_test, ledger)
    settle(kept, sides, ledger)
    ledger.check()
    if not rule.may_be_empty:
        _refuse_nothing(ledger)
    write_prepared(folder, kept, sides, ledger, _layout(sets) | {"recipe": recipe})


def write_prepared(
    folder: Path, kept: KeptRows, sides: Sides, ledger: Ledger, facts: Mapping[str, Any]
) -> None:
    """Write numbers, ledger and, last, ``prepared.json`` with the ``facts``."""
    splits = {}
    for name, side in ((TRAIN, sides.train), (HELD_OUT, sides.held_out)):
        np.save(folder / f"{name}.npy", sides.samples(side, kept))
        splits[name] = sha256(kept.digests[side].tobytes()).hexdigest()
    text = json.dumps(ledger.to_json(), indent=1, ensure_ascii=False)
    (folder / LEDGER).write_text(text, encoding="utf-8")
    write_facts(folder, PREPARED, {**facts, "splits": splits})


def _ledger(sets: Sequence[RenderedSet]) -> Ledger:
    ledger = Ledger([Account(one.name) for one in sets])
    for number, one in enumerate(sets):
        for shard in one.shards:
            ledger.absorb(shard.ledger, number)
    return ledger


def _kept_rows(sets: Sequence[RenderedSet]) -> KeptRows:
    """The rows of all shards, their files numbered anew."""
    parts, datasets = [np.empty(0, dtype=ROW)], [np.empty(0, dtype=np.int32)]
    files: dict[str, int] = {}
    for number, one in enumerate(sets):
        for shard in one.shards:
            rows = shard.rows()
            own = [files.setdefault(name, len(files)) for name in shard.files]
            rows["file"] = np.asarray(own, dtype=np.int32)[rows["file"]]
            parts.append(rows)
            datasets.append(np.full(len(rows), number, dtype=np.int32))
    return KeptRows(np.concatenate(parts), np.concatenate(datasets), list(files))


def _layout(sets: Sequence[RenderedSet]) -> dict[str, Any]:
    """Where the samples lie: the shards in order, and where each data set's samples start."""
    counts = [sum(shard.samples for shard in one.shards) for one in sets]
    starts = np.cumsum([0, *counts[:-1]], dtype=np.int64).tolist()
    return {
        "shards": [
            f"{one.place}/{shard.path.name}"
            for one in sets
            for shard in one.shards
            if shard.samples
        ],
        "datasets": starts,
        "totals": _totals(sets),
    }


def _totals(sets: Sequence[RenderedSet]) -> list[str]:
    """The names of the totals, which are the same in all shards that hold anything."""
    names = {shard.totals for one in sets for shard in one.shards if shard.samples}
    if len(names) > 1:
        raise TunesmithError(
            f"the objective gives the data sets different totals: {sorted(names)}",
            hint="an objective must give every sample the same named totals",
        )
    return list(names.pop()) if names else []


def _refuse_nothing(ledger: Ledger) -> None:
    if any(account.rows_trained for account in ledger.accounts):
        return
    rows = sum(account.rows_in for account in ledger.accounts)
    story = "; ".join(line.strip() for line in ledger.summary()[:6])
    raise DataError(
        f"nothing is left to train on: all {rows} rows were dropped or are held out ({story})",
        hint="look at `sequence_len`, `min_sample_len`, `roles_to_train` and the data's `type`",
        where="datasets",
    )
