"""Read is not yet works: changing a key changes what its page says, and nothing else.

Each case is two runs, from the YAML's keys to the exported model, that differ in one key.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.effects import data_keys, model_keys, training_keys
from tests.effects.case import Case, placed
from tests.effects.ground import BASE, fill_hub, hub_of_data, make_ground
from tests.effects.observe import Seen, changed, observe
from tunesmith.config.flat import leaves
from tunesmith.registry import registry
from tunesmith.runs import prepare

CASES: tuple[Case, ...] = (*model_keys.CASES, *data_keys.CASES, *training_keys.CASES)

Watched = Callable[[Mapping[str, Any], Case | None], Seen]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """What is seen of the run of some keys; a run that was seen before is not run again."""
    folder = tmp_path_factory.mktemp("effects")
    ground = make_ground(folder)
    known: dict[str, Seen] = {}
    numbers = itertools.count()

    def watch(keys: Mapping[str, Any], case: Case | None = None) -> Seen:
        earlier = case and case.earlier
        name = json.dumps([keys, earlier], sort_keys=True)
        if name not in known:
            run = folder / f"run-{next(numbers)}"
            run.mkdir()
            if case is not None and earlier is not None:
                observe(placed({**keys, **earlier}, ground, run))
                lose(run / "out", case.lost)
            known[name] = observe(placed(dict(keys), ground, run))
        return known[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_CACHE", str(folder / "cache"))
        patch.syspath_prepend(folder)
        patch.setattr(prepare, "default_workers", lambda: 0)  # render in this process
        fill_hub(Path(os.environ["HF_HOME"]), ground)
        patch.setattr(datasets, "load_dataset", hub_of_data(ground / "hub"))
        registry.cache_clear()
        yield watch
    registry.cache_clear()


def lose(folder: Path, names: Sequence[str]) -> None:
    """Remove files and folders."""
    for path in (folder / name for name in names):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_each_key_that_is_read_has_a_case() -> None:
    """A key without one counts as not built."""
    wanted = {flat for flat in leaves() if not flat.startswith("test_datasets[]")}
    have = {case.key for case in CASES}
    assert not wanted - have, "these keys have no case"
    assert not have - wanted, "these cases have no key"


def test_held_out_entries_are_entries_of_the_same_class() -> None:
    """So that the cases of ``datasets[]`` stand for both."""
    assert leaves()["test_datasets"].inner is leaves()["datasets"].inner


def test_the_same_keys_are_seen_the_same(watched: Watched) -> None:
    """Without this "nothing else" would mean nothing."""
    again = {**BASE, "output_dir": "RUN/out/"}
    assert changed(watched(BASE), watched(again)) == set()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_key_changes_what_its_page_says_and_nothing_else(case: Case, watched: Watched) -> None:
    before = watched(case.keys(BASE, changed=False), case)
    after = watched(case.keys(BASE, changed=True), case)
    found = changed(before, after)
    beyond, missing = sorted(found - case.names), sorted(case.names - found)
    assert not beyond + missing, f"changed beyond that: {beyond}; did not change: {missing}"
    for name, says in case.says.items():
        assert says(before.get(name), after.get(name)), (
            f"{name}: {before.get(name)} -> {after[name]}"
        )
