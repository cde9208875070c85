import pytest

from tunesmith.config.flat import dotted, from_flat, groups, leaves, nest, to_flat, top_leaves
from tunesmith.config.schema import RunConfig

SMALL = {
    "base_model": "m",
    "learning_rate": 1e-4,
    "datasets": [{"path": "a", "type": {"field_input": "x"}}, {"path": "b"}],
    "special_tokens": {"pad_token": "p"},
    "lora_target_modules": ["q_proj", "v_proj"],
    "optim_args": {"eps": 1e-6},
}


def test_flat_names_are_unique_and_never_a_group():
    names = [leaf.flat for leaf in leaves().values()]
    assert len(names) == len(set(names))
    assert not groups() & set(names)


def test_every_field_of_every_section_is_one_leaf():
    for section, declared in RunConfig.model_fields.items():
        fields = {leaf.field for leaf in top_leaves().values() if leaf.section == section}
        assert fields == set(declared.annotation.model_fields)


def test_section_names_are_no_keys_except_plugins():
    assert set(RunConfig.model_fields) & set(top_leaves()) == {"plugins"}


def test_leaves_of_lists_and_blocks_are_dotted():
    assert leaves()["datasets[].type.field_input"].parent == "datasets[].type"
    assert leaves()["special_tokens.pad_token"].parent == "special_tokens"
    assert leaves()["datasets"].listed
    assert not leaves()["special_tokens"].listed


def test_flat_to_sections_to_flat_is_the_identity():
    config = from_flat(SMALL)
    assert to_flat(config) == SMALL
    assert from_flat(to_flat(config)) == config
    assert from_flat(to_flat(config, all=True)) == config
    assert set(to_flat(config, all=True)) == set(top_leaves())


def test_nest_puts_each_value_into_its_section():
    nested = nest({"lora_r": 4, "base_model": "m"})
    assert nested["adapters"] == {"rank": 4}
    assert nested["model"] == {"base": "m"}
    assert nested["optim"] == {}


def test_dotted_leaves_blocks_that_are_values_whole():
    assert dotted({"special_tokens": {"pad_token": "p"}}) == {"special_tokens": {"pad_token": "p"}}


def test_every_key_says_what_it_is_and_who_reads_it():
    for leaf in leaves().values():
        assert leaf.doc.endswith("."), leaf.flat
        assert leaf.info.readers, leaf.flat
        assert all(reader.startswith("tunesmith.") for reader in leaf.info.readers), leaf.flat
        assert (leaf.info.when is None) == (leaf.info.why == ""), leaf.flat


@pytest.mark.parametrize("flat", list(top_leaves()))
def test_defaults_are_valid(flat):
    leaf = top_leaves()[flat]
    if not leaf.required:
        assert getattr(
            getattr(from_flat({**SMALL, flat: leaf.default}), leaf.section), leaf.field
        ) == (leaf.default)
