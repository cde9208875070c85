"""One data set, rendered: shards of its rows, each committed whole, so that a build can go on.

A set's folder holds ``shard-00000``, ``shard-00001``, ... and ``set.json``, which is written last.
A shard is the samples of an unbroken stretch of the data set's rows, what is known of each kept row
(``rows.npy``), and the account of them all.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.data.cache import SampleWriter
from tunesmith.data.facts import SET, SHARD, damaged, read_facts, write_facts
from tunesmith.data.kept import Rows, RowWriter
from tunesmith.data.ledger import Account, Ledger
from tunesmith.data.records import Source
from tunesmith.data.samples import TokenSample
from tunesmith.data.store import flush_to_disk

SHARD_ROWS = 16_384
SHARD_TOKENS = 1 << 24
"""A shard is closed at so many rows or tokens: 64 MiB of ids, and what a kill can cost."""

_PART = ".part"


class ShardWriter:
    """Writes one shard; it exists once ``commit`` has returned."""

    def __init__(self, folder: Path, name: str) -> None:
        """``name`` is the data set's, for the account."""
        self._folder = folder
        self._part = folder.with_name(folder.name + _PART)
        if self._part.exists():
            shutil.rmtree(self._part)
        self._part.mkdir()
        self._samples = SampleWriter(self._part)
        self._rows = RowWriter()
        self.ledger = Ledger([Account(name)])
        self.n_rows = 0
        self.n_tokens = 0

    @property
    def is_full(self) -> bool:
        """Whether it should be closed."""
        return self.n_rows >= SHARD_ROWS or self.n_tokens >= SHARD_TOKENS

    def add(
        self,
        source: Source,
        samples: Sequence[TokenSample],
        totals: Sequence[Mapping[str, float]],
    ) -> None:
        """Write the kept samples of a row, each with its share of each named total."""
        self._rows.add(source, samples)
        for sample, total in zip(samples, totals, strict=True):
            self._samples.add(sample, total)
            self.n_tokens += len(sample)

    def commit(self) -> None:
        """Put the shard in its place, when every byte of it is on the disk."""
        self._samples.close()
        np.save(self._part / "rows.npy", self._rows.rows())
        facts = {
            **self._samples.facts(),
            "rows_read": self.n_rows,
            "samples": len(self._samples.lengths),
            "files_read": list(self._rows.files),
            "ledger": self.ledger.to_json(),
        }
        write_facts(self._part, SHARD, facts)
        flush_to_disk(self._part)
        self._part.rename(self._folder)

    def discard(self) -> None:
        """Close it and leave nothing."""
        self._samples.close()
        shutil.rmtree(self._part)


@dataclass(frozen=True, slots=True)
class ReadShard:
    """What a shard says of itself; the samples stay on the disk."""

    path: Path
    totals: tuple[str, ...]
    rows_read: int
    samples: int
    files: tuple[str, ...]
    ledger: Ledger

    def rows(self) -> Rows:
        """Its kept rows."""
        rows: Rows = np.load(self.path / "rows.npy", allow_pickle=False)
        return rows


def shard_name(number: int) -> str:
    """The folder of a shard."""
    return f"shard-{number:05}"


def read_shard(path: Path) -> ReadShard | None:
    """A committed shard, or None where there is none, or not all of it."""
    facts = read_facts(path, SHARD)
    if facts is None:
        return None
    return ReadShard(
        path=path,
        totals=tuple(facts["totals"]),
        rows_read=facts["rows_read"],
        samples=facts["samples"],
        files=tuple(facts["files_read"]),
        ledger=Ledger.from_json(facts["ledger"]),
    )


def committed(folder: Path) -> list[ReadShard]:
    """The shards of an unfinished set that are whole, from the first; later remains are removed."""
    found: list[ReadShard] = []
    while (shard := read_shard(folder / shard_name(len(found)))) is not None:
        if damaged(shard.path, SHARD):
            break
        found.append(shard)
    kept = {shard.path for shard in found}
    for path in folder.iterdir():
        if path.is_dir() and path not in kept:
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
    return found


def finish_set(folder: Path, recipe: Mapping[str, Any]) -> None:
    """Write ``set.json``: all shards are there."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    write_facts(folder, SET, {"shards": names, "recipe": recipe})


def read_set(folder: Path) -> list[ReadShard] | None:
    """The shards of a finished set, or None where it is missing or any shard is not whole."""
    facts = read_facts(folder, SET)
    if facts is None:
        return None
    shards = [read_shard(folder / name) for name in facts["shards"]]
    found = [shard for shard in shards if shard is not None]
    return found if len(found) == len(shards) else None


def damaged_set(folder: Path) -> list[Path]:
    """The files of a set whose bytes are not the ones that were written."""
    facts = read_facts(folder, SET)
    if facts is None:
        return [folder / SET]
    wrong = damaged(folder, SET)
    return wrong + [file for name in facts["shards"] for file in damaged(folder / name, SHARD)]
