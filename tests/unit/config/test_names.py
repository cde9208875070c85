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
