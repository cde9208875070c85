"""Keys that are set and do nothing: said once, an error where what trains would differ."""

import pytest

from tunesmith.config.flat import leaves
from tunesmith.config.read import load
from tunesmith.errors import ConfigError

RIGHT = {
    "base_model": "m",
    "learning_rate": 1e-4,
    "micro_batch_size": 1,
    "datasets": [{"path": "a", "type": "alpaca"}],
}


def said(values, **how):
    """Key -> what is said of it, of a config that has no other problem."""
    try:
        notices, problems = load(values, **how).notices, ()
    except ConfigError as error:
        notices, problems = error.notices, error.problems
    parts = [notice.removeprefix("python: ").partition(": ") for notice in notices]
    return {key: "notice" for key, _, _ in parts} | {each.key: each.code for each in problems}


def entry(**keys):
    return {**RIGHT, "datasets": [{"path": "a", "type": "alpaca", **keys}]}


NAMES = {
    "field_messages": "x",
    "field_tools": "x",
    "field_system": "x",
    "field_thinking": "x",
    "template_thinking_key": "x",
    "field_chosen": "x",
    "field_rejected": "x",
    "step_separator": "x",
    "max_completion_length": 8,
    "train_on_last_step_only": True,
    "length": 8,
    "sequence_length": 8,
    "min_input_id": 8,
    "max_input_id": 8,
    "seed": 8,
}
"""Keys of an entry that say where to look, or how much of what is not there."""

CHOICES = {
    "message_property_mappings": {"role": "from"},
    "message_field_training": "x",
    "message_field_training_detail": "x",
    "message_field_weight": "x",
    "split_thinking": True,
    "drop_system_message": True,
    "roles": {"user": ["human"]},
    "roles_to_train": ["user"],
    "turns_to_train": "last",
    "train_on_eos": "all",
    "train_on_eot": "all",
    "history": "last",
    "chat_template": "chatml",
    "field": "x",
    "text_column": "x",
}
"""Keys of an entry that choose what trains."""


@pytest.mark.parametrize(("name", "value"), (NAMES | CHOICES).items())
@pytest.mark.parametrize("listed", ["datasets", "test_datasets"])
def test_a_key_of_an_entry_that_its_type_does_not_read_is_said(name, value, listed):
    values = RIGHT | {listed: [{"path": "b", "type": "alpaca", name: value}]}
    key = f"{listed}.0.{name}"
    assert said(values) == {key: "conflict" if name in CHOICES else "notice"}
    assert said(values, strict_keys=True) == {key: "conflict"}


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        *(("chat_template", name, (NAMES | CHOICES)[name]) for name in list(NAMES)[:5]),
        *(("chat_template", name, CHOICES[name]) for name in list(CHOICES)[:13]),
        *((None, name, CHOICES[name]) for name in list(CHOICES)[:13]),
        *(("_synthetic", name, NAMES[name]) for name in list(NAMES)[10:]),
        ("completion", "field", "x"),
        ("pretrain", "text_column", "x"),
        ("alpaca", "conversation", "chatml"),
    ],
)
def test_nothing_is_said_where_the_type_reads_it(kind, name, value):
    assert said(RIGHT | {"datasets": [{"path": "a", "type": kind, name: value}]}) == {}


def test_each_key_that_only_some_types_read_is_tried_here():
    of_entries = {
        flat.removeprefix("datasets[].")
        for flat, leaf in leaves().items()
        if leaf.parent == "datasets" and leaf.info.when is not None
    }
    apart = {"conversation", "weight", "repeats", "chat_template_jinja"}
    assert of_entries - apart == NAMES.keys() | CHOICES.keys()


def test_a_module_of_the_users_may_read_anything(tmp_path, monkeypatch):
    (tmp_path / "my_rows.py").write_text("")
    monkeypatch.chdir(tmp_path)
    keys = {"field_messages": "x", "history": "last", "field": "y", "seed": 3}
    assert said(RIGHT | {"datasets": [{"path": "a", "type": "my_rows", **keys}]}) == {}


def test_a_style_that_the_type_names_wins():
    values = entry(conversation="chatml") | {}
    values["datasets"][0]["type"] = "alpaca:chat"
    assert said(values) == {"datasets.0.conversation": "conflict"}


def test_held_out_rows_and_streams_are_read_once():
    held_out = {"path": "b", "type": "alpaca"}
    values = RIGHT | {"test_datasets": [{**held_out, "weight": 2.0, "repeats": 2.0}]}
    assert said(values) == {"test_datasets.0.weight": "notice", "test_datasets.0.repeats": "notice"}
    stream = {"streaming": True, "max_steps": 1}
    assert said(entry(repeats=2.0) | stream) == {"datasets.0.repeats": "notice"}
    assert said(entry(repeats=2.0)) == {}


def test_a_value_that_asks_for_nothing_is_not_mentioned():
    defaults = {
        "field_messages": "messages",
        "seed": 0,
        "split_thinking": False,
        "turns_to_train": "all",
        "roles": None,
        "message_field_weight": None,
    }
    assert said(entry(**defaults), strict_keys=True) == {}


@pytest.mark.parametrize(
    ("wrong", "code"),
    [({"seed": -1}, "out-of-range"), ({"xyzzy": 1}, "unknown-key"), ({"flush": 1}, "unknown-key")],
)
def test_another_wrong_value_hides_nothing(wrong, code):
    values = entry(history="last") | {"lora_r": 4, **wrong}
    expected = {next(iter(wrong)): code, "datasets.0.history": "conflict"}
    assert said(values) == {**expected, "lora_r": "notice"}
    assert said(values, strict_keys=True) == {**expected, "lora_r": "conflict"}


def test_what_hangs_on_a_wrong_value_is_not_judged():
    assert said(RIGHT | {"lora_r": 4, "adapter": "lorra"}, strict_keys=True) == {
        "adapter": "out-of-range"
    }
    assert said(RIGHT | {"lora_r": 4, "adaptr": "lora"}, strict_keys=True) == {
        "adaptr": "unknown-key"
    }
    assert said(entry(type=3, history="last")) == {"datasets.0.type": "wrong-type"}
    typo = {"path": "a", "typ": "chat_template", "history": "last"}
    assert said(RIGHT | {"datasets": [typo]}) == {"datasets.0.typ": "unknown-key"}


@pytest.mark.parametrize(
    ("keys", "idle"),
    [
        ({"flash_attention": True}, "flash_attention"),
        ({"liger_rope": True}, "liger_rope"),
        ({"wandb_name": "n"}, "wandb_name"),
        ({"attn_implementation": "flash_attention_3"}, "attn_implementation"),
        ({"full_finetune": True}, "full_finetune"),
    ],
)
def test_strict_keys_refuse_what_is_left_out(keys, idle):
    (notice,) = load(RIGHT | keys).notices
    assert idle in notice
    with pytest.raises(ConfigError) as caught:
        load(RIGHT | keys, strict_keys=True)
    (problem,) = caught.value.problems
    assert (problem.key, problem.code, problem.edit) == (idle, "conflict", {idle: None})
    assert problem.fix == f"take `{idle}` out"
    assert caught.value.notices == []


def test_strict_keys_take_what_is_only_spelt_in_an_old_way():
    old = {"evaluation_strategy": "no", "sdp_attention": True, "x-anchors": {"a": 1}}
    assert len(load(RIGHT | old, strict_keys=True).notices) == 3
