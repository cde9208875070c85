"""4- and 8-bit bases on a CPU: equal to transformers + peft + bitsandbytes by hand."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from tests.conformance.tiny import batch_of, build, policy_of
from tunesmith.config.adapters import AdaptersSection
from tunesmith.config.model import ModelSection
from tunesmith.config.quant import QuantSection
from tunesmith.errors import ModelError
from tunesmith.models.adapters import add_adapter
from tunesmith.models.freeze import count_trained, train_everything
from tunesmith.models.load import load_model
from tunesmith.models.policy import Want
from tunesmith.models.quantize import build_quantization, is_quantized
from tunesmith.models.source import locate
from tunesmith.models.state import adapter_state

pytest.importorskip("bitsandbytes")
pytestmark = [
    # peft's PeftModel asks for it under its old name.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is dep:FutureWarning"),
    # bitsandbytes' 8-bit product says that it rounds its input.
    pytest.mark.filterwarnings("ignore:MatMul8bitLt:UserWarning"),
]
TARGETS = ["q_proj", "v_proj", "down_proj"]


@pytest.fixture
def folder(tmp_path):
    # 64 columns: the size of one quantised block.
    model = build("Llama", hidden_size=64, intermediate_size=128, head_dim=16)
    model.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def quantised(folder, section):
    base = locate(ModelSection(base=str(folder)))
    quantization = build_quantization(section, torch.float32)
    device = torch.device("cpu")
    return load_model(base, torch.float32, quantization, device, "tunesmith_varlen")


@pytest.mark.parametrize("bits", [4, 8])
def test_a_step_on_a_quantised_base_is_peft_and_bitsandbytes_by_hand(folder, tmp_path, bits):
    section = QuantSection(load_in_4bit=bits == 4, load_in_8bit=bits == 8)
    ours = quantised(folder, section)
    assert is_quantized(ours)
    adapters = AdaptersSection(kind="qlora", rank=4, target_modules=tuple(TARGETS))
    info = add_adapter(ours, adapters, 0, base_name=str(folder))
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in ours.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=draw)
    by_hand = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        device_map={"": "cpu"},
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        )
        if bits == 4
        else BitsAndBytesConfig(load_in_8bit=True),
    )
    theirs = get_peft_model(by_hand, LoraConfig(r=4, lora_alpha=16, target_modules=TARGETS))
    values = {n: p.detach().clone() for n, p in ours.named_parameters() if p.requires_grad}
    theirs.base_model.model.load_state_dict(values, strict=False)

    # In evaluation mode bitsandbytes rounds the scales of 4-bit weights on some CPUs
    # (models.repacking); a training step by hand never sees that.
    theirs.train()
    ours.train()
    batch = batch_of((11,))
    output = policy_of(ours)(batch, Want(coefficients_T=batch.targets["weights"]))
    ids = batch.inputs["input_ids"][None]
    logits = theirs(input_ids=ids, use_cache=False).logits[0, :-1]
    losses = F.cross_entropy(logits, ids[0, 1:], reduction="none")
    expected = (losses * batch.targets["weights"][:-1]).sum()
    torch.testing.assert_close(-output.dot, expected, atol=1e-4, rtol=1e-4)
    (-output.dot).backward()
    expected.backward()
    wanted = dict(theirs.base_model.model.named_parameters())
    trained = [(n, p) for n, p in ours.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * len(info.modules) == 12
    for name, parameter in trained:
        torch.testing.assert_close(parameter.grad, wanted[name].grad, atol=1e-4, rtol=1e-4)
        assert parameter.grad.abs().max() > 1e-4

    state = {n: t.contiguous() for n, t in adapter_state(policy_of(ours)).items()}
    save_file(state, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(info.adapter_config))
    loaded = PeftModel.from_pretrained(build_plain(folder), tmp_path)
    assert loaded.peft_config["default"].base_model_name_or_path == str(folder)


def build_plain(folder):
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")


def test_nf4_with_quantised_scales_is_what_load_in_4bit_means():
    config = build_quantization(QuantSection(load_in_4bit=True), torch.bfloat16)
    assert config.bnb_4bit_quant_type == "nf4"
    assert config.bnb_4bit_use_double_quant
    assert config.bnb_4bit_compute_dtype == torch.bfloat16
    arguments = {"bnb_4bit_use_double_quant": False, "bnb_4bit_quant_type": "fp4"}
    config = build_quantization(QuantSection(load_in_4bit=True, bnb_args=arguments), torch.bfloat16)
    assert config.bnb_4bit_quant_type == "fp4"
    assert not config.bnb_4bit_use_double_quant
    assert build_quantization(QuantSection(), torch.float32) is None


def test_an_argument_that_bitsandbytes_lacks_is_an_error():
    section = QuantSection(load_in_4bit=True, bnb_args={"bnb_4bit_typ": "nf4"})
    with pytest.raises(ModelError, match="bnb_4bit_typ") as caught:
        build_quantization(section, torch.float32)
    assert caught.value.where == "bnb_config_kwargs"


def test_a_quantised_base_cannot_train_whole(folder):
    model = quantised(folder, QuantSection(load_in_4bit=True))
    with pytest.raises(ModelError, match="quantised"):
        train_everything(model)


def test_counted_numbers_are_those_before_packing(folder):
    plain = load_model(
        locate(ModelSection(base=str(folder))), torch.float32, None, torch.device("cpu"), "eager"
    )
    train_everything(plain)
    share = count_trained(plain)
    assert share.n_trained == share.n_total == plain.num_parameters()
    packed = count_trained(quantised(folder, QuantSection(load_in_4bit=True)))
    assert packed.n_total == share.n_total
