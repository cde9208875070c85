"""``pretraining_dataset`` and its companions are read as a stream of ``datasets``."""

from __future__ import annotations

import pytest

from tunesmith.config.read import load
from tunesmith.errors import ConfigError

BASE = {"base_model": "b", "learning_rate": 1e-4, "micro_batch_size": 1, "max_steps": 5}


@pytest.mark.parametrize(
    "given",
    [
        "c4.jsonl",
        {"path": "c4.jsonl"},
        [{"path": "c4.jsonl"}],
        [{"path": "c4.jsonl", "type": None}],
    ],
)
def test_a_corpus_is_a_stream_of_plain_text(given):
    loaded = load({**BASE, "pretraining_dataset": given})
    (entry,) = loaded.config.data.datasets
    assert (entry.path, entry.type) == ("c4.jsonl", "pretrain")
    assert loaded.config.data.streaming
    assert any("`streaming: true`" in notice for notice in loaded.notices)


def test_all_keys_of_an_entry_are_kept():
    entry = {
        "path": "json",
        "data_files": "c4.jsonl",
        "split": "train",
        "name": "en",
        "text_column": "body",
        "skip": 7,
        "type": "pretrain",
    }
    config = load({**BASE, "pretraining_dataset": [entry, "more.jsonl"]}).config
    first, second = config.data.datasets
    assert {name: getattr(first, name) for name in entry} == entry
    assert (second.path, second.type) == ("more.jsonl", "pretrain")


@pytest.mark.parametrize("given", [None, [], ""])
def test_none_is_none(given):
    config = load({**BASE, "datasets": [{"path": "a"}], "pretraining_dataset": given}).config
    assert not config.data.streaming
    assert len(config.data.datasets) == 1


def test_a_corpus_beside_data_sets_is_a_conflict():
    with pytest.raises(ConfigError) as error:
        load({**BASE, "datasets": [{"path": "a"}], "pretraining_dataset": "c4.jsonl"})
    (problem,) = error.value.problems
    assert (problem.code, problem.key) == ("conflict", "pretraining_dataset")


def test_a_stream_has_steps():
    with pytest.raises(ConfigError) as error:
        load({**BASE, "max_steps": None, "pretraining_dataset": "c4.jsonl"})
    assert [problem.key for problem in error.value.problems] == ["max_steps"]


def test_glued_texts_are_packed():
    keys = {"pretraining_dataset": "c4.jsonl", "pretraining_sample_concatenation": True}
    loaded = load({**BASE, **keys})
    assert loaded.config.packing.sample_packing
    assert any("`sample_packing: true`" in notice for notice in loaded.notices)
    keys["pretraining_sample_concatenation"] = False
    assert not load({**BASE, **keys}).config.packing.sample_packing


def test_documents_that_see_each_other_are_refused():
    keys = {**BASE, "pretraining_dataset": "c4.jsonl"}
    load({**keys, "pretrain_multipack_attn": True})
    with pytest.raises(ConfigError, match="never see each other"):
        load({**keys, "pretrain_multipack_attn": False})


def test_the_window_and_the_group():
    keys = {**BASE, "pretraining_dataset": "c4.jsonl", "pretrain_multipack_buffer_size": 77}
    assert load(keys).config.data.window == 77
    packed = {**BASE, "datasets": [{"path": "a"}], "sample_packing": True}
    assert load({**packed, "sample_packing_group_size": 500}).config.packing.group_size == 500
    usual = load({**packed, "sample_packing_group_size": 100_000})
    assert usual.config.packing.group_size is None
    assert not [notice for notice in usual.notices if "group" in notice]


def test_flattened_batches_are_what_there_is():
    loaded = load({**BASE, "datasets": [{"path": "a"}], "batch_flattening": True})
    assert any("without padding" in notice for notice in loaded.notices)
