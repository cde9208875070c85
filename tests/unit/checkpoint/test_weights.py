from __future__ import annotations

import json

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tunesmith.checkpoint.weights import (
    ADAPTER,
    has_weights,
    read_weights,
    same_tensor,
    save_tensors,
    weight_files,
    write_weights,
)
from tunesmith.errors import ExitCode, RunError


def tensors(n: int = 5, size: int = 100) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {f"layer.{i}.weight": torch.randn(size) for i in range(n)}


def test_one_file_when_it_fits(tmp_path):
    files = write_weights(tmp_path, tensors().items())
    assert [file.name for file in files] == ["model.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    read = dict(read_weights(tmp_path))
    assert read.keys() == tensors().keys()
    assert all(torch.equal(read[name], value) for name, value in tensors().items())


def test_shards_are_no_larger_than_asked_and_indexed(tmp_path):
    files = write_weights(tmp_path, tensors().items(), stem=ADAPTER, shard_bytes=900)
    assert [file.name for file in files] == [
        f"adapter_model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)
    ]
    index = json.loads((tmp_path / "adapter_model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 2000
    assert index["weight_map"]["layer.2.weight"] == files[1].name
    assert weight_files(tmp_path, ADAPTER) == files
    read = dict(read_weights(tmp_path, ADAPTER))
    assert all(torch.equal(read[name], value) for name, value in tensors().items())


def test_a_tensor_larger_than_a_shard_is_one(tmp_path):
    assert len(write_weights(tmp_path, tensors(3).items(), shard_bytes=10)) == 3


def test_transformers_loads_the_shards(tmp_path):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    model.config.save_pretrained(tmp_path)
    assert len(write_weights(tmp_path, model.state_dict().items(), shard_bytes=5000)) > 2
    loaded, report = LlamaForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = torch.arange(8)[None]
    assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_no_more_than_a_shard_is_held(tmp_path):
    alive: list[int] = []
    living = 0

    class Counted(torch.Tensor):
        def __del__(self):
            nonlocal living
            living -= 1

    def stream():
        nonlocal living
        for number in range(20):
            living += 1
            alive.append(living)
            yield f"w{number}", torch.zeros(100).as_subclass(Counted)

    write_weights(tmp_path, stream(), shard_bytes=800)
    assert max(alive) <= 4  # two in the shard, the next, and the one before it


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.uint8])
def test_views_and_dtypes_survive(tmp_path, dtype):
    matrix = torch.arange(12).reshape(3, 4).to(dtype)
    save_tensors(tmp_path / "x.safetensors", {"t": matrix.T, "row": matrix[1]})
    read = dict(read_weights(tmp_path, "x"))
    assert same_tensor(read["t"], matrix.T)
    assert same_tensor(read["row"], matrix[1])


def test_no_weights_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="no tensors"):
        write_weights(tmp_path, [])


def test_what_is_missing_is_named(tmp_path):
    assert not has_weights(tmp_path, "model")
    with pytest.raises(RunError, match=r"model\.safetensors is missing") as caught:
        weight_files(tmp_path, "model")
    assert caught.value.exit_code == ExitCode.DAMAGED
    files = write_weights(tmp_path, tensors().items(), shard_bytes=900)
    assert has_weights(tmp_path, "model")
    files[1].unlink()
    with pytest.raises(RunError, match="model-00002-of-00003"):
        weight_files(tmp_path, "model")


def test_same_means_every_bit():
    nan = torch.tensor([float("nan"), 0.0])
    assert same_tensor(nan, nan.clone())
    assert not same_tensor(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert not same_tensor(torch.zeros(2), torch.zeros(2, dtype=torch.float64))
    assert not same_tensor(torch.zeros(2), torch.zeros(1, 2))
    assert same_tensor(torch.zeros(0), torch.zeros(0))
