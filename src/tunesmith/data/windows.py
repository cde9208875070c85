"""A stream's rows, a window of them at a time: each prepared once, found again, and let go.

A pass reads the data sets' rows in one fixed order (one after the other, or mixed by weight), and
window n is the n-th stretch of it. So a window is a pure function of its number: every rank, and a
run that is resumed, finds the same. A window is a prepared folder like any other, and never reaches
over the end of a pass; later passes use the same windows again.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.broken import BrokenRows
from tunesmith.data.build import Dataset, Progress, RowReader, take
from tunesmith.data.cache import TRAIN, PreparedSplit
from tunesmith.data.facts import PREPARED, SHARD, damaged, read_facts
from tunesmith.data.fingerprint import key_of, refuse_changed, stamps, whole_recipe
from tunesmith.data.holdout import HoldOut
from tunesmith.data.jsonrow import Row
from tunesmith.data.ledger import Account, Ledger
from tunesmith.data.merge import LEDGER, MergeRule, RenderedSet, merge
from tunesmith.data.prepare import PrepareRequest, open_datasets, recipes_of, silent
from tunesmith.data.records import RowError, Source
from tunesmith.data.sandbox import RenderPool
from tunesmith.data.shards import ReadShard, ShardWriter, read_shard, shard_name
from tunesmith.data.sources import note_of, open_rows
from tunesmith.data.store import build_once

STREAMS = "streams"
"""The folder of the streams' windows, inside of the cache."""

KEPT = 4
"""Windows that stay on the disk behind the newest one."""

_PASS = "pass.json"

_Read = tuple[Source, Row]


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What a stream depends on: all that preparation does, and how many rows a window has.

    ``weights`` mix the data sets row by row until the first is exhausted; with None they come one
    after the other.
    """

    prepare: PrepareRequest
    window: int
    weights: tuple[float, ...] | None = None


class Windows:
    """The windows of a stream. ``open`` may be called by several threads and processes."""

    def __init__(self, request: StreamRequest, progress: Progress = silent) -> None:
        self._request, self._progress = request, progress
        self._datasets = open_datasets(request.prepare)
        recipes = recipes_of(request.prepare, self._datasets, progress)
        parameters = {
            "window": request.window,
            "weights": request.weights,
            "dataset_exact_deduplication": request.prepare.data.exact_deduplication,
        }
        self.recipe = whole_recipe(recipes, parameters)
        self.folder = request.prepare.cache_dir / STREAMS / key_of(self.recipe)
        self._pools = ExitStack()
        self._renderers: dict[int, RenderPool] = {}
        self._rows: Iterator[_Read] = iter(())
        self._at = -1  # the window that the open iterator stands before
        self._building = threading.Lock()
        self._stamps = stamps(self._files())

    @property
    def n_windows(self) -> int | None:
        """Windows of a pass; None until its end was reached once."""
        with suppress(OSError, ValueError, KeyError):
            return int(json.loads((self.folder / _PASS).read_text(encoding="utf-8"))["windows"])
        return None

    def open(self, number: int) -> tuple[PreparedSplit, Ledger]:
        """Window ``number`` and its account; after the last of a pass comes the first again.

        Raises:
            DataError: rows are broken, or a whole pass has nothing to train on.
        """
        known = self.n_windows
        if known is not None and number >= known:
            return self.open(number % known)
        folder = self.folder / f"window-{number:06}"
        try:
            build_once(
                folder,
                is_whole=_is_whole,
                build=partial(self._build, number),
                waiting=lambda: self._progress("another process prepares this window", 0, None),
            )
        except _PassEnded:
            self._note_end(number)
            return self.open(0)
        with suppress(OSError):
            os.utime(self.folder)  # the time of use, by which the cache is cleaned
        ledger = Ledger.from_json(json.loads((folder / LEDGER).read_text(encoding="utf-8")))
        return PreparedSplit(folder, TRAIN), ledger

    def lengths(self, number: int) -> NDArray[np.int32]:
        """The lengths of a window's samples, in order, also where the window was let go."""
        known = self.n_windows
        number = number % known if known else number
        path = self.folder / f"lengths-{number:06}.npy"
        if not path.exists():
            split, ledger = self.open(number)
            self._keep(self._account(number), json.dumps(ledger.to_json()).encode())
            lengths = BytesIO()
            np.save(lengths, split.lengths)
            self._keep(path, lengths.getvalue())
        found: NDArray[np.int32] = np.load(path, allow_pickle=False)
        return found

    def ledger(self, count: int) -> Ledger:
        """The account of the first ``count`` windows together, those of one pass at most."""
        found = Ledger([Account(dataset.entry.path) for dataset in self._datasets])
        known = self.n_windows
        for number in range(count if known is None else min(count, known)):
            self.lengths(number)
            told = json.loads(self._account(number).read_text(encoding="utf-8"))
            found.add(Ledger.from_json(told))
        found.check()
        return found

    def let_go(self, number: int) -> None:
        """Remove the windows that lie far behind ``number`` and do not come again soon."""
        known = self.n_windows
        for path in self.folder.glob("window-??????"):
            behind = number - int(path.name.removeprefix("window-"))
            ahead = math.inf if known is None else -behind % known
            if known is not None:
                behind %= known
            if behind > KEPT and ahead > KEPT:
                shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """End the processes that render."""
        self._pools.close()
        self._renderers.clear()
        self._at = -1

    def _account(self, number: int) -> Path:
        """Where a window's ledger stays when the window is let go."""
        return self.folder / f"ledger-{number:06}.json"

    def _keep(self, path: Path, data: bytes) -> None:
        """Write a file whole or not at all, whoever else writes the same at this moment."""
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        unfinished.write_bytes(data)
        unfinished.replace(path)

    def _note_end(self, n_windows: int) -> None:
        self._keep(self.folder / _PASS, json.dumps({"windows": n_windows}).encode())

    # --- building -------------------------------------------------------------------------------

    def _build(self, number: int, folder: Path) -> None:
        with self._building:
            self._build_alone(number, folder)

    def _build_alone(self, number: int, folder: Path) -> None:
        rows = self._next_rows(number)
        refuse_changed(self._stamps, stamps(self._files()))
        if not rows:
            raise _PassEnded
        broken = BrokenRows()
        sets = []
        for index, dataset in enumerate(self._datasets):
            own = [(source, row) for source, row in rows if source.dataset == index]
            shard = self._render(folder / shard_name(index), index, own, broken, begins=number == 0)
            sets.append(RenderedSet(dataset.entry.path, ".", (shard,) if shard else ()))
        broken.raise_any()
        rule = MergeRule(
            test=(False,) * len(sets),
            held_out=HoldOut(0.0, self._request.prepare.seed),
            drop_copies=self._request.prepare.data.exact_deduplication,
            shard=(0, 1),
            may_be_empty=True,
        )
        merge(folder, sets, rule, {"stream": self.folder.name, "window": number})

    def _next_rows(self, number: int) -> list[_Read]:
        """The window's rows; reading goes on where it stopped if that is where it begins."""
        size = self._request.window
        if self._at != number:
            self._rows = islice(self._one_pass(), number * size, None)
        self._at = -1  # an error in between must not leave a place that is not true
        rows = list(islice(self._rows, size))
        self._at = number + 1
        return rows

    def _one_pass(self) -> Iterator[_Read]:
        """All rows of a pass, in their order."""
        opened = [
            open_rows(dataset.entry, index, dataset.location)
            for index, dataset in enumerate(self._datasets)
        ]
        weights = self._request.weights
        return chain.from_iterable(opened) if weights is None else _by_weight(opened, weights)

    def _render(
        self,
        folder: Path,
        index: int,
        rows: list[_Read],
        broken: BrokenRows,
        *,
        begins: bool,
    ) -> ReadShard | None:
        """One data set's part of a window as a shard, or None if rows are broken.

        What is odd about where the rows come from is noted where they begin.
        """
        dataset = self._datasets[index]
        shard = ShardWriter(folder, dataset.entry.path)
        note = note_of(dataset.location, dataset.entry.path)
        if begins and note is not None:
            shard.ledger.note(note)
        reader = RowReader(dataset.entry, self._request.prepare.data, broken)
        pool = self._pool(index, dataset)
        for (source, _), outcome in pool.render(reader.records(rows)):
            shard.n_rows += 1
            try:
                if isinstance(outcome, RowError):
                    raise outcome
                take(shard, outcome, source, (dataset.rule, self._request.prepare.weigh))
            except RowError as error:
                broken.add(source, error)
        if len(broken):
            shard.discard()
            return None
        shard.commit()
        return read_shard(folder)

    def _files(self) -> list[Path]:
        return [path for dataset in self._datasets for path in dataset.location.files]

    def _pool(self, index: int, dataset: Dataset) -> RenderPool:
        if index not in self._renderers:
            pool = RenderPool(dataset.settings, self._request.prepare.workers)
            self._renderers[index] = self._pools.enter_context(pool)
        return self._renderers[index]


class _PassEnded(Exception):
    """There are no rows in the window that was asked for."""


def _is_whole(folder: Path) -> bool:
    facts = read_facts(folder, PREPARED)
    if facts is None:
        return False
    return not any(damaged(folder / shard, SHARD) for shard in facts["shards"])


def _by_weight(opened: list[Iterator[_Read]], weights: tuple[float, ...]) -> Iterator[_Read]:
    """Rows of all data sets in proportion to the weights, until one has no more.

    The next row is always of the data set that lags most behind its share; of equal ones the first.
    """
    given = [0] * len(opened)
    while True:
        behind = [(count + 0.5) / weight for count, weight in zip(given, weights, strict=True)]
        index = behind.index(min(behind))
        row = next(opened[index], None)
        if row is None:
            return
        given[index] += 1
        yield row
