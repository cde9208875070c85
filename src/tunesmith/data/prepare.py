"""Data set entries to one prepared data set: built once by one process, found again by content."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tunesmith.config.data import DataSection
from tunesmith.config.packing import PackingSection
from tunesmith.data.broken import BrokenRows
from tunesmith.data.build import BuildPlan, Dataset, Progress, SetBroken, SetBuild, Weigh
from tunesmith.data.cache import HELD_OUT, TRAIN, PreparedSplit
from tunesmith.data.facts import PREPARED, SET, SHARD, damaged, read_facts
from tunesmith.data.fingerprint import (
    Recipe,
    key_of,
    refuse_changed,
    set_recipe,
    stamps,
    whole_recipe,
)
from tunesmith.data.holdout import HoldOut
from tunesmith.data.ledger import Ledger
from tunesmith.data.merge import LEDGER, MergeRule, RenderedSet, merge
from tunesmith.data.overlong import LengthRule
from tunesmith.data.records import Lint, RowError
from tunesmith.data.render import RenderSettings
from tunesmith.data.shards import damaged_set, read_set, read_shard
from tunesmith.data.sources import given_rows, locate
from tunesmith.data.store import build_once
from tunesmith.errors import ConfigError

SETS = "sets"
"""The folder of the rendered data sets, inside of the cache."""

_WAITING = "another process prepares this data: waiting"


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
    datasets = open_datasets(request)
    recipes = recipes_of(request, datasets, progress)
    recipe = whole_recipe(recipes, _parameters(request))
    key = key_of(recipe)
    folder = request.cache_dir / key

    def build(unfinished: Path) -> None:
        sets = _render(request, datasets, recipes, progress)
        merge(unfinished, sets, _merge_rule(request, datasets), recipe)

    from_cache = build_once(
        folder,
        is_whole=_is_whole,
        build=build,
        waiting=lambda: progress(_WAITING, 0, None),
    )
    _mark_used(folder, request.cache_dir, recipes)
    return _open(folder, key, from_cache=from_cache)


def find(request: PrepareRequest) -> Prepared | None:
    """The prepared data set that the request describes, or None where it was not built yet.

    Raises:
        DataError, ConfigError: as ``prepare``, for what can be told without reading rows.
    """
    key = key_of(whole_recipe_of(request))
    folder = request.cache_dir / key
    facts = read_facts(folder, PREPARED)
    if facts is None or any(read_shard(folder / shard) is None for shard in facts["shards"]):
        return None
    return _open(folder, key, from_cache=True)


def whole_recipe_of(request: PrepareRequest) -> Recipe:
    """Everything that the prepared data of the request depends on."""
    recipes = recipes_of(request, open_datasets(request), silent)
    return whole_recipe(recipes, _parameters(request))


def open_datasets(request: PrepareRequest) -> tuple[Dataset, ...]:
    """The data sets of a request, located, held-out ones last.

    Raises:
        ConfigError: no data set is named, or keys contradict each other.
        DataError: as ``locate``.
    """
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
        location = locate(entry, request.seed) if given is None else given_rows(given)
        datasets.append(Dataset(entry, location, settings, rule, is_test))
    return tuple(datasets)


def recipes_of(
    request: PrepareRequest, datasets: tuple[Dataset, ...], progress: Progress
) -> list[Recipe]:
    """The recipe of each data set."""
    recipes = []
    for number, dataset in enumerate(datasets):
        progress("hashing data", number, len(datasets))
        parameters = {
            "longest": dataset.rule.longest,
            "min_sample_len": dataset.rule.shortest,
            "excess_length_strategy": dataset.rule.policy,
            "train_on_inputs": request.data.train_on_inputs,
            "seed": request.seed if dataset.entry.shards else None,
            "weigh": request.weigh_version,
        }
        recipes.append(set_recipe(dataset.entry, dataset.location, dataset.settings, parameters))
    return recipes


def _parameters(request: PrepareRequest) -> dict[str, Any]:
    """What is done with all data sets together."""
    data = request.data
    return {
        "n_test_datasets": len(data.test_datasets),
        "dataset_exact_deduplication": data.exact_deduplication,
        "dataset_shard": list(_part(data)),
        "val_set_size": data.val_set_size,
        "seed": request.seed if data.val_set_size else None,
    }


def _merge_rule(request: PrepareRequest, datasets: tuple[Dataset, ...]) -> MergeRule:
    data = request.data
    return MergeRule(
        test=tuple(dataset.is_test for dataset in datasets),
        held_out=HoldOut(data.val_set_size, request.seed),
        drop_copies=data.exact_deduplication,
        shard=_part(data),
    )


def _render(
    request: PrepareRequest,
    datasets: tuple[Dataset, ...],
    recipes: list[Recipe],
    progress: Progress,
) -> list[RenderedSet]:
    """Every data set rendered, from the cache or built now; the broken rows of all are told."""
    plan = BuildPlan(request.data, request.weigh, request.workers)
    broken = BrokenRows()
    rendered = []
    for number, (dataset, recipe) in enumerate(zip(datasets, recipes, strict=True)):
        build = partial(_build_set, dataset, number, plan, broken, progress, recipe)
        folder = request.cache_dir / SETS / key_of(recipe)
        with suppress(SetBroken):
            build_once(
                folder,
                is_whole=lambda path: not damaged_set(path),
                build=build,
                waiting=lambda: progress(_WAITING, 0, None),
                resumes=True,
            )
            shards = read_set(folder) or []
            place = f"../{SETS}/{folder.name}"
            rendered.append(RenderedSet(dataset.entry.path, place, tuple(shards)))
    broken.raise_any()
    return rendered


def _build_set(
    dataset: Dataset,
    number: int,
    plan: BuildPlan,
    broken: BrokenRows,
    progress: Progress,
    recipe: Recipe,
    unfinished: Path,
) -> None:
    files = dataset.location.files
    before = stamps(files)
    SetBuild(unfinished, dataset, number, plan, broken, progress).run(recipe)
    refuse_changed(before, stamps(files))


def _is_whole(folder: Path) -> bool:
    """Whether the folder and all shards that it names hold the bytes that were written."""
    facts = read_facts(folder, PREPARED)
    if facts is None or damaged(folder, PREPARED):
        return False
    return not any(damaged(folder / shard, SHARD) for shard in facts["shards"])


def _mark_used(folder: Path, cache_dir: Path, recipes: list[Recipe]) -> None:
    """Note the time of use, by which the cache is cleaned; a read-only cache is as good."""
    for path in (folder / PREPARED, *(cache_dir / SETS / key_of(one) / SET for one in recipes)):
        with suppress(OSError):
            os.utime(path)


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


def _part(data: DataSection) -> tuple[int, int]:
    """Which of how many parts of the merged rows; a number without parts means nothing."""
    return (data.shard_index if data.shards > 1 else 0), data.shards
