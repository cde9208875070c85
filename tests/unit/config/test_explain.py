import pytest

from tunesmith.config.checks.rules import MACHINE_RULES, RULES
from tunesmith.config.explain import explain, rows_like
from tunesmith.config.flat import leaves
from tunesmith.config.read import load
from tunesmith.config.support import old_keys, state_of
from tunesmith.errors import ConfigError

RIGHT = {
    "base_model": "m",
    "learning_rate": 1e-4,
    "micro_batch_size": 1,
    "datasets": [{"path": "a", "roles": {"user": ["human"]}}],
    "lora_r": 4,
}


def test_a_key_is_explained_with_type_bounds_and_default():
    found = explain("lora-r")
    assert (found.key, found.state, found.default) == ("lora_r", "read", "8")
    assert found.type.startswith("a whole number, 1 or more")
    assert "tunesmith.models.adapters" in found.readers
    assert found.needs == "adapter is not set"
    assert (found.asked, found.value, found.source, found.effect) == ("", "", "", "")


def test_with_a_config_come_the_value_who_set_it_and_whether_it_matters():
    dead = explain("lora_r", load(RIGHT))
    assert (dead.value, dead.source) == ("4", "python")
    assert dead.effect == "has no effect here: adapter is not set"
    live = explain("lora_r", load(RIGHT, {"adapter": "lora", "lora_target_linear": True}))
    assert live.effect == "read in this config"
    assert explain("seed", load(RIGHT)).source == "default"


def test_what_waits_for_the_machine_is_said_at_its_key():
    loaded = load(RIGHT | {"bf16": True})
    assert explain("bf16", loaded).deferred == tuple(loaded.deferred)
    assert explain("seed", loaded).deferred == ()


def test_keys_of_entries_are_explained_by_position_or_without():
    loaded = load(RIGHT)
    assert explain("datasets.0.path", loaded).value == "a"
    assert explain("datasets.0.roles", loaded).value == '{"user": ["human"]}'
    assert explain("datasets.path").key == "datasets[].path"
    assert explain("special_tokens.pad_token", loaded).value == "null"


def test_every_rule_is_told_at_each_key_that_is_read():
    for rule in (*RULES, *MACHINE_RULES):
        for key in rule.keys:
            if state_of(key) is not None:
                assert explain(key).rules, key
    assert "bf16 or fp16. (fp16)" in explain("bf16").rules


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        ("lr", "learning_rate"),
        ("Learning-Rate", "learning_rate"),
        ("learing_rate", "learning_rate"),
        ("target_modules", "lora_target_modules"),
        ("datasets.0.typ", "datasets[].type"),
        ("datasets.subset", "datasets[].name"),
        ("flash_atention", "attn_implementation"),
    ],
)
def test_other_words_and_slips_lead_to_the_key_that_was_meant(asked, key):
    found = explain(asked, load(RIGHT))
    assert (found.key, found.asked, found.state) == (key, asked, "read")
    assert found.value


@pytest.mark.parametrize(
    ("old", "key", "said"),
    [
        ("evaluation_strategy", "eval_strategy", "read as `eval_strategy`"),
        ("sdp_attention", "attn_implementation", "read as `attn_implementation: sdpa`"),
        ("bfloat16", "bf16", "read as `bf16: true`"),
        ("dataset", "datasets", "read as `datasets`"),
        ("datasets.0.message_field_role", "datasets[].message_property_mappings", "{role: ...}"),
    ],
)
def test_an_old_key_leads_to_todays_and_says_since_when(old, key, said):
    found = explain(old)
    assert (found.key, found.state) == (key, "read")
    assert said in found.asked
    assert "since 20" in found.asked


@pytest.mark.parametrize(
    ("key", "state"),
    [
        ("local_rank", "left out: it means nothing on one device"),
        ("lora_mlp_kernel", "left out: the result is the same, only the speed may differ"),
        ("s2_attention", "refused: shifted sparse attention was removed: take it out"),
        ("datasets.trust_remote_code", "refused: scripts of data sets are never run: take it out"),
        ("wandb_project", "not built yet: Weights & Biases"),
    ],
)
def test_a_key_that_is_not_read_says_why_and_what_to_write(key, state):
    assert explain(key).state == state


def test_every_old_key_is_explained():
    for key in old_keys():
        assert explain(key).state
        assert state_of(key) is not None


def test_a_word_that_is_near_nothing_is_refused():
    with pytest.raises(ConfigError) as caught:
        explain("xyzzy")
    assert caught.value.hint == "`tunesmith config keys` lists all"


def test_keys_are_found_by_name_and_by_meaning_those_that_are_read_first():
    assert [row.key for row, state in rows_like("warmup") if state == "read"] == [
        "warmup_steps",
        "warmup_ratio",
    ]
    assert "lora_dropout" in {row.key for row, _ in rows_like("dropout")}
    states = [state for _, state in rows_like()]
    assert states[: len(leaves())] == ["read"] * len(leaves())
    assert "read" not in states[len(leaves()) :]
    assert ("world_size", "left out: it means nothing on one device") in [
        (row.key, state) for row, state in rows_like("world")
    ]
