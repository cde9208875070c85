"""Data set entries to one prepared data set: built once by one process, found again by content."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.config.data import DataSection
from tunesmith.config.packing import PackingSection
from tunesmith.data.build import LEDGER, Build, BuildPlan, Dataset, Progress, Weigh
from tunesmith.data.cache import HELD_OUT, TRAIN, PreparedSplit, read_facts
from tunesmith.data.fingerprint import Recipe, dataset_recipe, key_of, stamps, whole_recipe
from tunesmith.data.ledger import Ledger
from tunesmith.data.overlong import LengthRule
from tunesmith.data.records import Lint, RowError
from tunesmith.data.render import RenderSettings
from tunesmith.data.sources import given_rows, locate
from tunesmith.data.store import build_once
from tunesmith.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class PrepareRequest:
    """All that prepared data depends on, and where it is kept.

    ``settings`` holds the renderer's settings of each data set, then of each test data set.
    ``weigh_version`` names what ``weigh`` answers; ``seed`` draws the held-out rows. ``workers`` is
    the number of processes that render (0: this one, without limits). ``given`` are rows in memory
    that stand for the data sets of the same numbers (None: read the entry).
    """

    data: DataSection
    packing: PackingSection
    settings: tuple[RenderSettings, ...]
    weigh: Weigh
    weigh_version: str
    seed: int
    cache_dir: Path
    workers: int = 1
    given: tuple[Sequence[Mapping[str, Any] | RowError] | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared data set. ``held_out`` is None where nothing is.

    ``fingerprint`` is the key of the cache: equal keys mean equal bytes. ``lint`` holds the first
    examples of what was found odd; the ledger counts them all.
    """

    train: PreparedSplit
    held_out: PreparedSplit | None
    ledger: Ledger
    fingerprint: str
    path: Path
    lint: list[Lint]
    from_cache: bool


def silent(what: str, done: int, total: int | None) -> None:
    """Progress that nobody is told."""


def prepare(request: PrepareRequest, progress: Progress = silent) -> Prepared:
    """The prepared data set that the request describes, from the cache or built now.

    Raises:
        DataError: data is missing or broken, or nothing is left to train on; ``problems`` holds the
            first broken rows.
        ConfigError: keys that contradict each other.
    """
    datasets = _datasets(request)
    recipe = _recipe(request, datasets, progress)
    key = key_of(recipe)
    folder = request.cache_dir / key
    plan = BuildPlan(datasets, request.data, request.weigh, request.seed, request.workers)

    def build(unfinished: Path) -> None:
        files = [path for dataset in datasets for path in dataset.location.files]
        before = stamps(files)
        Build(unfinished, plan, progress).run(recipe)
        _refuse_changed(before, stamps(files))

    from_cache = build_once(
        folder,
        is_whole=lambda path: read_facts(path) is not None,
        build=build,
        waiting=lambda: progress("another process prepares this data: waiting", 0, None),
    )
    return _open(folder, key, from_cache=from_cache)


def find(request: PrepareRequest) -> Prepared | None:
    """The prepared data set that the request describes, or None where it was not built yet.

    Raises:
        DataError, ConfigError: as ``prepare``, for what can be told without reading rows.
    """
    key = key_of(_recipe(request, _datasets(request), silent))
    folder = request.cache_dir / key
    return _open(folder, key, from_cache=True) if read_facts(folder) is not None else None


def _datasets(request: PrepareRequest) -> tuple[Dataset, ...]:
    data, packing = request.data, request.packing
    if not data.datasets:
        raise ConfigError("no data set is named", hint="list at least one under `datasets`")
    if data.test_datasets and data.val_set_size:
        raise ConfigError(
            "`test_datasets` and `val_set_size` are both set",
            hint="hold out rows of the training data or name held-out data, not both",
            where="val_set_size",
        )
    entries = (*data.datasets, *data.test_datasets)
    datasets = []
    for number, (entry, settings) in enumerate(zip(entries, request.settings, strict=True)):
        is_test = number >= len(data.datasets)
        longest = packing.eval_sequence_len if is_test else None
        rule = LengthRule(
            longest or packing.sequence_len, packing.min_sample_len, packing.excess_length
        )
        given = request.given[number] if number < len(request.given) else None
        location = locate(entry) if given is None else given_rows(given)
        datasets.append(Dataset(entry, location, settings, rule, is_test))
    return tuple(datasets)


def _recipe(request: PrepareRequest, datasets: tuple[Dataset, ...], progress: Progress) -> Recipe:
    recipes = []
    for number, dataset in enumerate(datasets):
        progress("hashing data", number, len(datasets))
        recipes.append(
            dataset_recipe(dataset.entry, dataset.location, dataset.settings.digest)
            | {"test": dataset.is_test, "longest": dataset.rule.longest}
        )
    data, packing = request.data, request.packing
    parameters = {
        "min_sample_len": packing.min_sample_len,
        "excess_length_strategy": packing.excess_length,
        "train_on_inputs": data.train_on_inputs,
        "dataset_exact_deduplication": data.exact_deduplication,
        "val_set_size": data.val_set_size,
        "seed": request.seed if data.val_set_size else None,
        "weigh": request.weigh_version,
    }
    return whole_recipe(recipes, parameters)


def _refuse_changed(
    before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]
) -> None:
    for name, stamp in before.items():
        if after[name] != stamp:
            raise DataError(
                f"{name} was written to while it was read",
                hint="run again when nothing writes to it any more",
                where=name,
            )


def _open(folder: Path, key: str, *, from_cache: bool) -> Prepared:
    ledger = Ledger.from_json(json.loads((folder / LEDGER).read_text(encoding="utf-8")))
    held_out = PreparedSplit(folder, HELD_OUT)
    return Prepared(
        train=PreparedSplit(folder, TRAIN),
        held_out=held_out if len(held_out) else None,
        ledger=ledger,
        fingerprint=key,
        path=folder,
        lint=ledger.examples(),
        from_cache=from_cache,
    )
