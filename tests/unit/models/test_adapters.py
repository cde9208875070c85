from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file

from tests.conformance.tiny import batch_of, build, policy_of
from tunesmith.config.adapters import AdaptersSection
from tunesmith.errors import ModelError
from tunesmith.models.adapters import add_adapter, disabled, find_targets
from tunesmith.models.policy import Want
from tunesmith.models.state import adapter_state, full_state, trainable_state

# peft's PeftModel asks for it under its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is dep:FutureWarning")

LINEAR = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


def section(**keys):
    return AdaptersSection(**({"kind": "lora", "rank": 4, "target_linear": True} | keys))


def shake(model):
    draw = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn(parameter.shape, generator=draw)


def test_targets_are_names_an_expression_all_linear_or_pefts_choice():
    model = build("Llama")
    assert find_targets(model, section()) == LINEAR
    assert find_targets(model, section(target_linear=False, target_modules="all-linear")) == LINEAR
    names = section(target_linear=False, target_modules=("v_proj", "q_proj"))
    assert find_targets(model, names) == ["q_proj", "v_proj"]
    rule = r"model\.layers\.1\..*\.(q|v)_proj"
    assert find_targets(model, section(target_linear=False, target_modules=rule)) == rule
    assert find_targets(model, section(target_linear=False)) is None


def test_an_expression_adapts_what_it_matches_and_no_more():
    model = build("Llama")
    rule = r"model\.layers\.1\..*\.(q|v)_proj"
    info = add_adapter(
        model, section(target_linear=False, target_modules=rule), 0, base_name="base"
    )
    assert info.modules == ("model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.v_proj")


def test_only_the_adapter_trains_and_the_head_has_none():
    model = build("Llama")
    info = add_adapter(model, section(), 0, base_name="base")
    assert len(info.modules) == 2 * len(LINEAR)
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * len(info.modules)
    assert all(".lora_" in name for name in trained)


@pytest.mark.parametrize(
    ("keys", "where", "nearest"),
    [
        ({"target_modules": ("q_porj",)}, "lora_target_modules", "q_proj"),
        ({"target_modules": r".*\.w_proj"}, "lora_target_modules", "proj"),
        ({"target_modules": "("}, "lora_target_modules", "list"),
        ({"modules_to_save": ("lm_heed",)}, "lora_modules_to_save", "lm_head"),
    ],
)
def test_a_rule_that_matches_nothing_is_an_error_with_the_nearest_names(keys, where, nearest):
    with pytest.raises(ModelError) as caught:
        add_adapter(build("Llama"), section(**keys), 0, base_name="base")
    assert caught.value.where == where
    assert nearest in caught.value.hint


def test_values_depend_on_seed_and_name_alone():
    def drawn(seed, **keys):
        model = build("Llama")
        add_adapter(model, section(**keys), seed, base_name="base")
        return {n: p.clone() for n, p in model.named_parameters() if ".lora_" in n}

    torch.manual_seed(123)
    one = drawn(1)
    torch.manual_seed(456)
    two = drawn(1)
    assert all(torch.equal(one[n], two[n]) for n in one)
    # Another set of modules, another order of drawing: the shared names have the same values.
    few = drawn(1, target_linear=False, target_modules=("up_proj",))
    assert few
    assert all(torch.equal(one[n], few[n]) for n in few)
    other = drawn(2)
    a = [n for n in one if ".lora_A." in n]
    assert not any(torch.equal(one[n], other[n]) for n in a)
    assert not any(one[n].any() for n in one if ".lora_B." in n)
    # Uniform with the bound of torch's linear layers.
    for name in a:
        bound = one[name].shape[1] ** -0.5
        assert 0.8 * bound < one[name].abs().max() <= bound


def test_names_are_those_that_peft_writes():
    ours = build("Llama")
    add_adapter(ours, section(modules_to_save=("lm_head",)), 0, base_name="base")
    theirs = get_peft_model(
        build("Llama"),
        LoraConfig(r=4, target_modules=LINEAR, modules_to_save=["lm_head"], task_type="CAUSAL_LM"),
    )
    wanted = get_peft_model_state_dict(theirs, save_embedding_layers=False)
    got = adapter_state(policy_of(ours))
    assert {n: t.shape for n, t in got.items()} == {n: t.shape for n, t in wanted.items()}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"rslora": True, "alpha": 7.0},
        {"modules_to_save": ("lm_head",)},
        {"target_linear": False, "target_modules": ("q_proj", "lm_head")},
    ],
)
def test_a_saved_adapter_loads_in_plain_peft_with_equal_logits(tmp_path, keys):
    model = build("Llama")
    info = add_adapter(model, section(**keys), 3, base_name="some/base")
    shake(model)
    policy = policy_of(model)
    batch = batch_of((13,))
    state = {n: t.contiguous() for n, t in adapter_state(policy).items()}
    save_file(state, tmp_path / "adapter_model.safetensors", metadata={"format": "pt"})
    (tmp_path / "adapter_config.json").write_text(json.dumps(info.adapter_config))
    loaded = PeftModel.from_pretrained(build("Llama", attention="eager"), tmp_path)
    assert loaded.peft_config["default"].base_model_name_or_path == "some/base"
    with torch.no_grad():
        ours = policy(batch, Want(logits=True)).logits_TV
        theirs = loaded(input_ids=batch.inputs["input_ids"][None], use_cache=False).logits[0]
        base = policy_of(build("Llama"))(batch, Want(logits=True)).logits_TV
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert (ours - base).abs().max() > 0.1


def test_disabled_is_the_base_and_changes_nothing_afterwards():
    model = build("Llama")
    add_adapter(model, section(modules_to_save=("lm_head",)), 0, base_name="base")
    shake(model)
    policy, batch = policy_of(model), batch_of((6, 5))
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    with torch.no_grad():
        before = policy(batch, Want()).logps_T
        with disabled(model):
            off = policy(batch, Want()).logps_T
        after = policy(batch, Want()).logps_T
        base = policy_of(build("Llama"))(batch, Want()).logps_T
    assert torch.equal(off, base)
    assert torch.equal(before, after)
    assert not torch.equal(before, base)
    assert [n for n, p in model.named_parameters() if p.requires_grad] == trained


def test_full_state_drops_the_tied_head_and_the_wrapper():
    tied = build("Llama", tie_word_embeddings=True)
    state = full_state(policy_of(tied))
    assert "lm_head.weight" not in state
    assert "model.embed_tokens.weight" in state
    assert len(state) == len(dict(tied.named_parameters()))
    assert "lm_head.weight" in full_state(policy_of(build("Llama")))


def test_full_state_has_the_names_of_the_files_not_of_memory():
    """transformers fuses a mixture's experts in memory; the files have them one by one."""
    state = full_state(policy_of(build("Mixtral")))
    experts = [n for n in state if ".experts.0." in n]
    assert len(experts) == 2 * 3
    assert not any("gate_up_proj" in n for n in state)


def test_trainable_state_is_the_parameters_themselves():
    model = build("Llama")
    add_adapter(model, section(), 0, base_name="base")
    state = trainable_state(policy_of(model))
    named = dict(model.named_parameters())
    assert state
    assert all(state[n] is named[n] for n in state)
    assert not any(n.startswith("model.model.") for n in state)
