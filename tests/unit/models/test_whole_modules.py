"""Modules that train whole in float32 beside a half-precision base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.unit.export.parts import make_base, make_export, make_policy
from tunesmith.export.final import export
from tunesmith.models.adapters import as_loaded

WHOLE = (("lm_head",), ("embed_tokens",), ("norm",))


@pytest.mark.parametrize("whole", WHOLE)
def test_they_are_exported_as_whoever_loads_them_has_them(
    whole: tuple[str, ...], tmp_path: Path
) -> None:
    base = make_base(tmp_path / "base", dtype=torch.bfloat16)
    if whole == ("lm_head",):
        _untie(base)
    export(make_export(tmp_path / "out", base, dtype=torch.bfloat16, whole=whole))
    assert (tmp_path / "out" / "tunesmith.json").is_file()


def _untie(base: Path) -> None:
    path = base / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": False}))
    tensors = load_file(base / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("name", ["embed_tokens", "norm"])
def test_they_answer_in_the_numbers_of_the_base(name: str, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", dtype=torch.bfloat16)
    policy, _ = make_policy(base, dtype=torch.bfloat16, whole=(name,))
    module = policy.model.get_submodule(f"model.{name}")
    given = torch.tensor([[1, 2]]) if name == "embed_tokens" else torch.ones(1, 2, 64).bfloat16()
    assert next(module.modules_to_save["default"].parameters()).dtype == torch.float32
    assert module(given).dtype == torch.bfloat16


def test_their_own_numbers_come_back(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", dtype=torch.bfloat16)
    policy, _ = make_policy(base, dtype=torch.bfloat16, whole=("norm",))
    before = {name: p.data for name, p in policy.model.named_parameters() if "to_save" in name}
    with as_loaded(policy.model):
        inside = {name: p.dtype for name, p in policy.model.named_parameters() if name in before}
    assert set(inside.values()) == {torch.bfloat16}
    after = dict(policy.model.named_parameters())
    assert all(torch.equal(after[name], data) for name, data in before.items())
    assert {after[name].dtype for name in before} == {torch.float32}
