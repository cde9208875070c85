"""Read is not yet works: changing a key changes what its page says, and nothing else.

Each case is two runs, from the YAML's keys to the exported model, that differ in one key.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.effects import data_keys, mixing_keys, model_keys, training_keys
from tests.effects.case import Case, placed, put
from tests.effects.ground import BASE, FULL, fill_hub, hub_of_data, make_ground
from tests.effects.observe import Seen, changed, observe, observe_run
from tunesmith.config.flat import dotted, from_flat, leaves
from tunesmith.config.read import load
from tunesmith.errors import ConfigError, TunesmithError
from tunesmith.registry import registry
from tunesmith.runs import prepare

CASES: tuple[Case, ...] = (
    *model_keys.CASES,
    *data_keys.CASES,
    *mixing_keys.CASES,
    *training_keys.CASES,
)

Watched = Callable[..., Seen]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """What is seen of the run of some keys; a run that was seen before is not run again."""
    folder = tmp_path_factory.mktemp("effects")
    ground = make_ground(folder)
    known: dict[str, Seen] = {}
    numbers = itertools.count()

    def watch(keys: Mapping[str, Any], case: Case | None = None, *, judged: bool = True) -> Seen:
        earlier = case and case.earlier
        name = json.dumps([keys, earlier], sort_keys=True)
        if name not in known:
            run = folder / f"run-{next(numbers)}"
            run.mkdir()
            registry.cache_clear()  # a plugin of the run before
            if case is not None and earlier is not None:
                observe(placed({**keys, **earlier}, ground, run))
                lose(run / "out", case.lost)
            found = placed(dict(keys), ground, run)
            known[name] = observe(found) if judged else observe_run(from_flat(dotted(found)))
        return known[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_CACHE", str(folder / "cache"))
        patch.syspath_prepend(folder)
        patch.setattr(prepare, "default_workers", lambda: 0)  # render in this process
        fill_hub(Path(os.environ["HF_HOME"]), ground)
        patch.setattr(datasets, "load_dataset", hub_of_data(ground / "hub"))
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
    missing = sorted(wanted - have - mixing_keys.NOT_YET.keys())
    assert not missing, f"these keys have no case: {missing}"
    assert not have & mixing_keys.NOT_YET.keys()
    assert not have - wanted, "these cases have no key"


def test_held_out_entries_are_entries_of_the_same_class() -> None:
    """So that the cases of ``datasets[]`` stand for both."""
    assert leaves()["test_datasets"].inner is leaves()["datasets"].inner


def test_the_same_keys_are_seen_the_same(watched: Watched) -> None:
    """Without this "nothing else" would mean nothing."""
    again = {**BASE, "output_dir": "RUN/out/"}
    assert changed(watched(BASE), watched(again)) == set()


@pytest.mark.parametrize("flat", sorted(mixing_keys.NOT_YET))
def test_a_key_without_a_run_of_its_own_is_refused_as_not_built(flat: str) -> None:
    kind = "stepwise_supervised" if "step" in flat or "completion_l" in flat else "dpo"
    keys: dict[str, Any] = {**BASE, "datasets": [{"path": "a", "type": kind}]}
    if ".type." in flat:
        keys["datasets"][0]["type"] = {}
    put(keys, flat, mixing_keys.NOT_YET[flat])
    with pytest.raises(ConfigError) as caught:
        load(keys)
    assert "not-built" in {problem.code for problem in caught.value.problems}


# Dynamo looks at `.grad` of what it traces, and torch warns of it.
COMPILES = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
SLOW = (pytest.mark.slow, COMPILES)


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=SLOW if case.slow else ()) for case in CASES], ids=str
)
def test_a_key_changes_what_its_page_says_and_nothing_else(case: Case, watched: Watched) -> None:
    before = watched(case.keys(BASE, changed=False), case)
    if case.refused:
        with pytest.raises(TunesmithError, match=case.refused):
            watched(case.keys(BASE, changed=True), case)
        return
    after = watched(case.keys(BASE, changed=True), case)
    found = changed(before, after)
    beyond, missing = sorted(found - case.names), sorted(case.names - found)
    assert not beyond + missing, f"changed beyond that: {beyond}; did not change: {missing}"
    for name, says in case.says.items():
        assert says(before.get(name), after.get(name)), (
            f"{name}: {before.get(name)} -> {after[name]}"
        )


WHEN = {case.key: case for case in CASES if leaves()[case.key].info.when is not None}
"""A case for each key that has no effect in some runs."""

DEAD: tuple[Mapping[str, Any], ...] = (
    {},
    FULL,
    {"optimizer": "sgd"},
    {"lr_scheduler": "constant"},
    {"sample_packing": True},
    {"pad_to_sequence_len": True},
    {"streaming": True},
    {"curriculum_sampling": False},
    {"datasets": [{**BASE["datasets"][0], "roles_to_train": ["assistant"]}]},
    {"datasets": [{"path": "GROUND/instructions.jsonl", "type": "alpaca"}]},
    {"val_set_size": None, "test_datasets": [dict(BASE["datasets"][0])]},
)
"""Runs among which each of those keys has one in which it does nothing."""


def matters(flat: str, keys: Mapping[str, Any]) -> bool:
    """Whether the schema says that the key has an effect in the run of these keys."""
    config = from_flat(dotted(placed(keys, Path(), Path())))
    leaf = leaves()[flat]
    if not leaf.parent:
        return leaf.has_effect(config)
    return leaf.has_effect(config, getattr(config.data, leaf.parent)[0])


def dead_runs(flat: str, value: Any) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The keys of runs without and with a key, an entry's among the held-out ones too."""
    for more in DEAD:
        for name in dict.fromkeys((flat, flat.replace("datasets[]", "test_datasets[]"))):
            keys = {name: v for name, v in {**BASE, **more}.items() if v is not None}
            with_it = copy.deepcopy(keys)
            put(with_it, name, value)
            is_there = "[]" not in name or name.partition("[]")[0] in keys
            if is_there and not matters(name, with_it):
                yield keys, with_it


@pytest.mark.parametrize("flat", sorted(WHEN))
def test_a_key_has_an_effect_where_it_says_so(flat: str) -> None:
    assert matters(flat, WHEN[flat].keys(BASE, changed=True))


@pytest.mark.parametrize("flat", sorted(WHEN))
def test_a_key_does_nothing_where_it_says_so(flat: str, watched: Watched) -> None:
    for keys, with_it in dead_runs(flat, WHEN[flat].value):
        before, after = watched(keys, judged=False), watched(with_it, judged=False)
        assert changed(before, after) == set()
        return
    pytest.fail(f"no run is known in which {flat} does nothing")
