import pytest

from tunesmith.config.flat import leaves, top_leaves
from tunesmith.config.names import suggest
from tunesmith.config.read import load
from tunesmith.config.synonyms import synonyms
from tunesmith.config.unbuilt import unbuilt_keys
from tunesmith.errors import ConfigError

TOP = [name for name in top_leaves() if "." not in name]
ENTRY = [
    name.removeprefix("datasets[].") for name, leaf in leaves().items() if leaf.parent == "datasets"
]


def typos(name: str) -> set[str]:
    """Each way to swap, drop or double one letter, to shout, and to use dashes."""
    made = {name[:i] + name[i + 1] + name[i] + name[i + 2 :] for i in range(len(name) - 1)}
    made |= {name[:i] + name[i + 1 :] for i in range(len(name)) if len(name) > 3}
    made |= {name[:i] + name[i] + name[i:] for i in range(len(name))}
    made |= {name.upper(), name.title(), name.replace("_", "-"), name.replace("_", "")}
    return made


@pytest.mark.parametrize(("names", "prefix"), [(TOP, ""), (ENTRY, "datasets[].")])
def test_a_slip_of_one_letter_leads_back_to_the_key(names, prefix):
    known = {key.removeprefix(prefix) for key in [*leaves(), *unbuilt_keys()]}
    # Every fifth slip of each key: all of them are as right, and take a minute.
    tried = [(name, typo) for name in names for typo in sorted(typos(name) - known)[::5]]
    right = [name for name, typo in tried if suggest(typo, prefix) == name]
    assert len(tried) > 100
    assert len(right) >= 0.95 * len(tried)


def test_every_slip_is_refused():
    for typo in typos("learning_rate") - {"learning_rate"}:
        with pytest.raises(ConfigError) as caught:
            load({"base_model": "m", "micro_batch_size": 1, "datasets": [{"path": "a"}], typo: 1})
        codes = {problem.code: problem for problem in caught.value.problems}
        assert codes["unknown-key"].key == typo
        assert codes["unknown-key"].fix == "did you mean `learning_rate`?"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("lr", "learning_rate"),
        ("r", "lora_r"),
        ("epochs", "num_epochs"),
        ("max_seq_length", "sequence_len"),
        ("per_device_train_batch_size", "micro_batch_size"),
        ("model_name_or_path", "base_model"),
        ("dataset", "datasets"),
        ("packing", "sample_packing"),
    ],
)
def test_the_words_of_other_tools_are_known(name, key):
    assert suggest(name) == key


def test_synonyms_lead_to_keys_that_exist_and_are_none_themselves():
    known = {*leaves(), *unbuilt_keys()}
    assert len(synonyms()) > 150
    for (block, word), key in synonyms().items():
        prefix = f"{block}." if block else ""
        assert prefix + key in known, word
        assert prefix + word not in known, word


def test_nothing_is_suggested_for_what_is_like_nothing():
    assert suggest("xyzzy") is None


def test_lenient_leaves_unknown_keys_out_aloud():
    values = {"base_model": "m", "learning_rate": 1, "micro_batch_size": 1}
    loaded = load({**values, "datasets": [{"path": "a"}], "xyzzy": 1}, lenient=True)
    assert loaded.notices == ["python: unknown key `xyzzy` is left out (--lenient)"]


def unknown(**values):
    right = {"base_model": "m", "learning_rate": 1, "micro_batch_size": 1}
    with pytest.raises(ConfigError) as caught:
        load({**right, "datasets": [{"path": "a", "type": "alpaca"}], **values})
    return [item for item in caught.value.problems if item.code == "unknown-key"]


@pytest.mark.parametrize(
    ("values", "key", "fix", "moved"),
    [
        (
            {"special_tokens": {"eot_tokens": ["x"]}},
            "special_tokens.eot_tokens",
            "write `eot_tokens` at the top level",
            "eot_tokens",
        ),
        ({"eos_token": "x"}, "eos_token", "write `eos_token` in `special_tokens`", "eos_token"),
        (
            {"field_messages": "x"},
            "field_messages",
            "write `field_messages` in `datasets`",
            "datasets.0.field_messages",
        ),
        (
            {"datasets": [{"path": "a", "Sequence-Len": 128}]},
            "datasets.0.Sequence-Len",
            "write `sequence_len` at the top level",
            "sequence_len",
        ),
    ],
)
def test_a_key_of_another_block_is_sent_there(values, key, fix, moved):
    (found,) = unknown(**values)
    assert (found.key, found.fix) == (key, fix)
    assert any(name.endswith(moved) for name in found.edit if name != key)


def test_with_several_data_sets_nobody_knows_where_a_key_belongs():
    (found,) = unknown(field_messages="x", datasets=[{"path": "a"}, {"path": "b"}])
    assert found.fix == "write `field_messages` in `datasets`"
    assert list(found.edit) == ["field_messages"]


def test_a_misspelt_key_is_not_missing_as_well():
    values = {"base_modle": "m", "lr": 1, "micro-batch-size": 1, "dataset_name": "a"}
    with pytest.raises(ConfigError) as caught:
        load(values)
    assert [(item.code, item.key) for item in caught.value.problems] == [
        ("unknown-key", name) for name in values
    ]


def test_what_a_misspelt_key_would_have_set_is_not_judged():
    values = {"eval_steps": 10, "val_size": 0.1}
    (found,) = unknown(**values)
    assert found.fix == "did you mean `val_set_size`?"


def test_keys_with_x_hold_anchors_and_are_said_to_be_left_out():
    values = {"base_model": "m", "learning_rate": 1, "micro_batch_size": 1}
    loaded = load({**values, "datasets": [{"path": "a"}], "x-common": {"a": 1}})
    assert loaded.notices == ["python: x-common is left out: a key with `x-` only holds anchors"]


def test_lenient_reaches_into_blocks():
    values = {"base_model": "m", "learning_rate": 1, "micro_batch_size": 1}
    entry = {"path": "a", "typ": "b", "message_property_mappings": {"role": "from"}}
    loaded = load(
        {**values, "datasets": [entry], "special_tokens": {"pad_tokn": "x"}}, lenient=True
    )
    assert loaded.notices == [
        "python: unknown key `datasets.0.typ` is left out (--lenient)",
        "python: unknown key `special_tokens.pad_tokn` is left out (--lenient)",
    ]
    assert loaded.config.data.datasets[0].type is None
