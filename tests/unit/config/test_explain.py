import pytest

from tunesmith.config.checks.rules import MACHINE_RULES, RULES
from tunesmith.config.explain import explain, rows_like
from tunesmith.config.flat import leaves
from tunesmith.config.read import examine
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
    dead = explain("lora_r", examine(RIGHT))
    assert (dead.value, dead.source) == ("4", "python")
    assert dead.effect == "has no effect here: adapter is not set"
    live = explain("lora_r", examine(RIGHT, {"adapter": "lora", "lora_target_linear": True}))
    assert live.effect == "read in this config"
    assert explain("seed", examine(RIGHT)).source == "default"


def test_what_waits_for_the_machine_is_said_at_its_key():
    loaded = examine(RIGHT | {"bf16": True})
    assert explain("bf16", loaded).deferred == tuple(loaded.loaded.deferred)
    assert explain("seed", loaded).deferred == ()


def test_keys_of_entries_are_explained_by_position_or_without():
    loaded = examine(RIGHT)
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
    found = explain(asked, examine(RIGHT))
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


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text(
        "base_model: m\nlearning_rate: 1e-4\nmicro_batch_size: 1\noutput_dir: o\n"
        "datasets: [{path: a, type: alpaca}]\nflash_attention: true\nworld_size: 2\n"
        "wandb_mode: online\n"
    )
    return path


@pytest.mark.parametrize(
    ("key", "value", "line", "said"),
    [
        ("flash_attention", "null", None, "flash_attention is left out: the machine decides"),
        ("world_size", "2", 7, "world_size is left out"),
        ("wandb_mode", "online", 8, "wandb_mode has no effect"),
    ],
)
def test_an_old_key_of_a_file_is_told_with_what_became_of_it(old, key, value, line, said):
    found = explain(key, examine(old))
    assert found.value == value
    assert found.source == (f"{old}:{line}:1" if line else "default")
    assert said in found.said[0]


@pytest.mark.parametrize(
    ("key", "value", "type", "wrong"),
    [
        ("rl", "grpo", "one of dpo, ipo", "wrong: not built yet"),
        ("trl.vllm_mode", "colocate", "one of server, colocate", ""),
        ("vllm-mode", "colocate", "one of server, colocate", ""),
        ("sequence_len", "-1", "a whole number, 2 or more", "wrong: must be 2 or more, not `-1`"),
        ("lora_r", "4", "a whole number, 1 or more", ""),
        ("datasets.0.path", "a", "text", ""),
    ],
)
def test_a_key_is_explained_in_a_config_that_is_wrong(old, key, value, type, wrong):
    text = old.read_text() + "rl: grpo\ntrl: {vllm_mode: colocate}\nsequence_len: -1\nlora_r: 4\n"
    old.write_text(text)
    examined = examine(old)
    assert examined.error is not None
    found = explain(key, examined)
    assert found.value == value
    assert found.source.startswith(f"{old}:")
    assert found.type.startswith(type)
    told = [text for text in found.said if text.startswith("wrong")]
    assert [text.startswith(wrong) for text in told] == ([True] if wrong else [])


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("path", "datasets[].path"),
        ("pad_token", "special_tokens.pad_token"),
        ("fsdp_offload_params", "fsdp_config.offload_params"),
        ("num_generations", "trl.num_generations"),
        ("$schema", "$schema"),
    ],
)
def test_a_key_of_a_block_is_found_by_its_own_name(name, key):
    found = explain(name)
    assert found.key == key
    assert found.state


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("wandb_project", "text"),
        ("gradio_share", "true or false"),
        ("trl.epsilon", "a number, 0 or more"),
        ("kd_alpha", "a number, 0 to 1"),
        ("activation_offloading", "true or false or one of legacy, disk, hidden_states"),
        ("lr_groups", "a list of mappings with `lr`, `name`, `modules`"),
        ("fsdp_version", "one of 1, 2"),
        ("deepspeed", ""),
    ],
)
def test_the_type_of_a_key_that_is_not_built_is_told(key, words):
    found = explain(key)
    assert found.state.startswith("not built yet: ")
    assert found.type == words
