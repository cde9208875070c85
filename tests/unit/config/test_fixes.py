"""What is suggested for values that can only mean one thing, or nothing at all."""

import pytest

from tests.unit.config.edits import edited
from tunesmith.config.read import load
from tunesmith.errors import ConfigError

RIGHT = {
    "base_model": "m",
    "learning_rate": 1e-4,
    "micro_batch_size": 1,
    "datasets": [{"path": "a", "type": "alpaca"}],
}
LORA = {"adapter": "lora"}


def only(**values):
    with pytest.raises(ConfigError) as caught:
        load(RIGHT | values)
    (problem,) = caught.value.problems
    return problem


def typed(kind):
    return {"datasets": [{"path": "a", "type": kind}]}


@pytest.mark.parametrize(
    ("values", "fix", "edit"),
    [
        ({"sample_packing": 1}, "write `true`", {"sample_packing": True}),
        ({"sample_packing": "y"}, "write `true`", {"sample_packing": True}),
        ({"sample_packing": 0}, "write `false`", {"sample_packing": False}),
        ({"sample_packing": "N"}, "write `false`", {"sample_packing": False}),
        (
            {"resume_from_checkpoint": True},
            "use `auto_resume_from_checkpoints: true`",
            {"auto_resume_from_checkpoints": True, "resume_from_checkpoint": None},
        ),
        (
            {**LORA, "lora_target_modules": [["q", "v"]]},
            "write `[q, v]`",
            {"lora_target_modules": ["q", "v"]},
        ),
        (
            {**LORA, "lora_target_modules": "q_proj,v_proj"},
            "write a list: `lora_target_modules: [q_proj, v_proj]`",
            {"lora_target_modules": ["q_proj", "v_proj"]},
        ),
        (
            {**LORA, "lora_target_modules": "all-linear"},
            "use `lora_target_linear: true` and take `lora_target_modules` out",
            {"lora_target_linear": True, "lora_target_modules": None},
        ),
        (
            {"defaults": {"a": 1}},
            "call it `x-defaults` if it only holds anchors, else take it out",
            {"x-defaults": {"a": 1}, "defaults": None},
        ),
        (typed("sharegtp"), "did you mean `sharegpt`?", {"datasets.0.type": "sharegpt"}),
    ],
)
def test_the_fix_is_what_was_meant(values, fix, edit):
    problem = only(**values)
    assert (problem.fix, problem.edit) == (fix, edit)
    load(edited(RIGHT | values, problem.edit))


def test_one_text_of_several_names_is_told_from_a_regular_expression():
    for text in (r"model\\.layers\\.\\d{1,2}\\.q_proj", ".*proj", "q_proj|v_proj", "q_proj"):
        assert load(RIGHT | LORA | {"lora_target_modules": text}).notices == []


def test_a_list_with_something_else_in_it_says_what():
    assert "a list with `1` in it" in only(**LORA, lora_target_modules=[1, 2]).message


@pytest.mark.parametrize(
    "values",
    [typed("zzzzqq"), {"optimizer": "zzzzz"}, {"chat_template": "zzzzz"}, {"optimizer": "lion"}],
)
def test_at_most_a_handful_of_names_is_listed(values):
    problem = only(**values)
    assert problem.fix.count(",") <= 6
    assert "or one such as" in problem.fix


def test_a_type_of_another_method_names_the_method():
    problem = only(**typed("chatml.intel"))
    assert problem.code == "not-built"
    assert "`rl: dpo`" in problem.fix
    assert problem.edit == {"rl": "dpo"}


def test_a_module_that_is_not_there_is_refused_by_that_reason():
    problem = only(**typed("my_pkg.my_strategy"))
    assert (problem.code, problem.edit) == ("refused", {})
    assert "no module `my_pkg`" in problem.message
    assert only(**typed("alpacca_chat.load_qa")).fix == "did you mean `alpaca_chat.load_qa`?"


def test_a_list_at_the_top_is_no_mapping(tmp_path):
    path = tmp_path / "c.yml"
    path.write_text("- base_model: m\n- learning_rate: 1\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert "a config is a mapping" in caught.value.problems[0].message
    assert "without `- `" in caught.value.problems[0].fix


def test_full_finetune_beside_an_adapter_says_what_trains():
    adapter = {**LORA, "lora_target_linear": True}
    (notice,) = load(RIGHT | adapter | {"full_finetune": True}).notices
    assert notice.endswith("full_finetune is left out: `adapter: lora` trains the adapter alone")
    (notice,) = load(RIGHT | {"full_finetune": True}).notices
    assert notice.endswith("all weights train wherever `adapter` is not set")


def test_remote_code_is_never_obeyed_and_that_is_said():
    loaded = load(RIGHT | {"trust_remote_code": True})
    (notice,) = loaded.notices
    assert "trust_remote_code is never obeyed" in notice
    assert loaded.config.model.trust_remote_code
    assert load(RIGHT | {"trust_remote_code": False}).notices == []
    with pytest.raises(ConfigError):
        load(RIGHT | {"trust_remote_code": True}, strict_keys=True)
