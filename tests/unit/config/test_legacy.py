import pytest

from tunesmith.config.flat import to_flat
from tunesmith.config.legacy import legacy_keys
from tunesmith.config.read import load
from tunesmith.errors import ConfigError

RIGHT = {
    "base_model": "m",
    "learning_rate": 1e-4,
    "micro_batch_size": 1,
    "datasets": [{"path": "a"}],
}


def loaded(**keys):
    return load(RIGHT | keys)


def refusal(**keys):
    with pytest.raises(ConfigError) as caught:
        loaded(**keys)
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize(
    ("old", "value", "new", "flat"),
    [
        ("dataset_processes", 4, "dataset_num_proc", 4),
        ("adam_eps", 1e-6, "adam_epsilon", 1e-6),
        ("model_revision", "main", "revision_of_model", "main"),
        ("type_of_model", "LlamaForCausalLM", "model_type", "LlamaForCausalLM"),
        ("sdp_attention", True, "attn_implementation", "sdpa"),
        ("eager_attention", True, "attn_implementation", "eager"),
        ("bfloat16", True, "bf16", True),
        ("float32", True, "bf16", False),
        ("bf16", "full", "bf16", True),
        ("optimizer", "adamw_hf", "optimizer", "adamw_torch"),
    ],
)
def test_old_keys_set_todays(old, value, new, flat):
    assert to_flat(loaded(**{old: value}).config)[new] == flat


def test_a_rename_is_said_once_and_a_second_spelling_is_not():
    (notice,) = loaded(dataset_processes=4).notices
    assert "dataset_processes is called `dataset_num_proc` now" in notice
    assert loaded(model_revision="main").notices == []


def test_old_and_new_key_together_must_agree():
    assert loaded(dataset_processes=4, dataset_num_proc=4).config.data.workers == 4
    problem = refusal(dataset_processes=4, dataset_num_proc=5)
    assert (problem.code, problem.key) == ("conflict", "dataset_processes")


@pytest.mark.parametrize("name", ["flash_attention", "flex_attention", "xformers_attention"])
def test_switches_for_fast_attention_leave_the_choice_to_the_machine(name):
    result = loaded(**{name: True})
    assert result.config.kernels.attention is None
    assert [name in notice for notice in result.notices] == [True]
    assert loaded(**{name: False}).notices == []


def test_two_choices_of_attention_contradict():
    assert refusal(flash_attention=True, eager_attention=True).code == "conflict"
    assert refusal(flash_attention=True, attn_implementation="sdpa").code == "conflict"


@pytest.mark.parametrize(
    "name", ["lora_mlp_kernel", "cut_cross_entropy", "local_rank", "use_kernels", "liger_rope"]
)
def test_what_has_no_meaning_here_is_left_out_aloud(name):
    (notice,) = loaded(**{name: True}).notices
    assert f"{name} is left out" in notice
    assert loaded(**{name: None}).notices == []
    assert loaded(**{name: False}).notices == []


def test_usual_values_of_left_out_keys_are_no_news():
    assert loaded(include_tkps=True, sample_packing_group_size=100000).notices == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_packed_sequence_len", 2048),
        ("rope_scaling", {"type": "linear"}),
        ("s2_attention", True),
        ("eta_min", 1e-6),
        ("save_safetensors", False),
    ],
)
def test_what_was_removed_is_refused_with_what_to_write(name, value):
    problem = refusal(**{name: value})
    assert (problem.code, problem.key) == ("refused", name)
    assert problem.fix
    assert loaded(**{name: None}).notices == []


def test_bitsandbytes_keys_move_into_their_block():
    result = loaded(
        adapter="qlora",
        load_in_4bit=True,
        lora_target_linear=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
    )
    assert result.config.quant.bnb_args == {
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
    }


def test_kernel_plugins_of_axolotl_are_left_out_and_others_are_not_built():
    liger = "axolotl.integrations.liger.LigerPlugin"
    (notice,) = loaded(plugins=[liger]).notices
    assert liger in notice
    problem = refusal(plugins=["axolotl.integrations.grokfast.GrokfastPlugin"])
    assert (problem.code, problem.key) == ("not-built", "plugins.0")


def test_sharegpt_becomes_chat_template_with_its_keys():
    (entry,) = loaded(datasets=[{"path": "a", "type": "sharegpt.load"}]).config.data.datasets
    assert entry.type == "chat_template"
    assert entry.field_messages == "conversations"
    assert entry.message_property_mappings == {"role": "from", "content": "value"}


def test_sharegpt_keeps_what_the_entry_says_itself():
    given = {"path": "a", "type": "sharegpt", "field_messages": "chat", "message_field_role": "who"}
    (entry,) = loaded(datasets=[given]).config.data.datasets
    assert entry.field_messages == "chat"
    assert entry.message_property_mappings == {"role": "who"}


def test_message_fields_move_into_the_mapping():
    given = {"path": "a", "message_field_role": "from", "message_field_content": "value"}
    (entry,) = loaded(datasets=[given]).config.data.datasets
    assert entry.message_property_mappings == {"role": "from", "content": "value"}


def test_message_fields_must_agree_with_the_mapping():
    given = {
        "path": "a",
        "message_field_role": "from",
        "message_property_mappings": {"role": "who"},
    }
    problem = refusal(datasets=[given])
    assert (problem.code, problem.key) == ("conflict", "datasets.0.message_field_role")


def test_scripts_of_data_sets_are_refused():
    problem = refusal(datasets=[{"path": "a", "trust_remote_code": True}])
    assert (problem.code, problem.key) == ("refused", "datasets.0.trust_remote_code")
    assert loaded(datasets=[{"path": "a", "trust_remote_code": False}]).notices == []


@pytest.mark.parametrize("name", sorted(legacy_keys()))
def test_an_old_key_left_empty_is_nothing(name):
    assert loaded(**{name: None}).notices == []


@pytest.mark.parametrize(
    ("loader", "field", "role", "content"),
    [
        ("sharegpt", "conversations", "from", "value"),
        ("sharegpt:chat", "conversations", "from", "value"),
        ("sharegpt_simple.load_role", "conversations", "role", "value"),
        ("sharegpt.load_role", "conversations", "role", "value"),
        ("sharegpt.load_ultrachat", "messages", "role", "content"),
        ("sharegpt.load_guanaco", "conversations", "role", "text"),
    ],
)
def test_each_loader_of_sharegpt_has_its_field_and_keys(loader, field, role, content):
    (entry,) = loaded(datasets=[{"path": "a", "type": loader}]).config.data.datasets
    assert (entry.type, entry.field_messages) == ("chat_template", field)
    assert entry.message_property_mappings == {"role": role, "content": content}


def test_a_style_of_sharegpt_is_the_entrys_template_unless_there_is_one():
    given = {"path": "a", "type": "sharegpt", "conversation": "llama-3"}
    (entry,) = loaded(datasets=[given]).config.data.datasets
    assert entry.chat_template == "llama3"
    (entry,) = loaded(datasets=[given], chat_template="chatml").config.data.datasets
    assert entry.chat_template is None


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ({"type": "sharegpt", "conversation": "vicuna_v1.1"}, "datasets.0.conversation"),
        ({"type": "sharegpt", "conversation": []}, "datasets.0.conversation"),
        ({"type": "sharegpt.load_glaive"}, "datasets.0.type"),
    ],
)
def test_what_of_sharegpt_has_no_successor_is_refused(keys, place):
    problem = refusal(datasets=[{"path": "a", **keys}])
    assert (problem.code, problem.key) == ("refused", place)


def test_one_data_set_may_stand_for_a_list_and_a_path_for_one():
    for keys in ({"dataset": "a"}, {"datasets": {"path": "a"}}, {"datasets": ["a"]}):
        config = load({k: v for k, v in RIGHT.items() if k != "datasets"} | keys).config
        assert [entry.path for entry in config.data.datasets] == ["a"]


def test_old_words_for_truth_switch_old_keys_too(tmp_path):
    path = tmp_path / "old.yaml"
    head = "base_model: m\nlearning_rate: 1e-4\nmicro_batch_size: 1\ndatasets: [{path: a}]\n"
    path.write_text(head + "flash_attention: off\nload_4bit: no\nunsloth_rope: on\n")
    notices = load(path).notices
    assert [word in " ".join(notices) for word in ("flash_attention", "unsloth_rope")] == [
        False,
        True,
    ]
