"""Muon, and every optimizer by the place of its class."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.unit.optim.parts import build, net, train
from tunesmith.errors import ConfigError, ModelError


class Signs(torch.optim.Optimizer):
    """An optimizer of somebody else: by the sign, with a moment of another shape."""

    def __init__(self, params, lr=1e-3, betas=(0.5, 0.5, 0.25), weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter]
                    state["seen"] = state.get("seen", 0) + 1
                    parameter.sub_(parameter.grad.sign(), alpha=group["lr"] / state["seen"])


HERE = "tests.unit.optim.test_elsewhere"
SIGNS = f"{HERE}:Signs"


def test_any_class_is_an_optimizer_by_its_place():
    module = net()
    optimizer = build(module, SIGNS)
    assert type(optimizer.inner).__name__ == "Signs"
    # Adam's betas where they were set, in the place of the first two of its own.
    assert {group["betas"] for group in optimizer.inner.param_groups} == {(0.9, 0.95, 0.25)}
    train(module, optimizer, 2)
    again = build(module, SIGNS)
    again.load_state(optimizer.state_tensors(), optimizer.state_scalars())
    assert again.state_scalars() == optimizer.state_scalars()
    assert again.state_scalars()["seen.wide.weight"] == 2
    with pytest.raises(ConfigError, match="takes no `rho`"):
        build(net(), SIGNS, args={"rho": 1})


def test_a_class_keeps_its_own_defaults():
    optimizer = build(net(), SIGNS, beta2=0.999, epsilon=1e-8)
    assert optimizer.inner.defaults["betas"] == (0.5, 0.5, 0.25)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nobodys_package:Adam", "`nobodys_package:Adam`, which cannot be loaded"),
        ("torch.optim:Adamm", "cannot be loaded"),
        ("lion_pytorch", "is `lion_pytorch:Lion`, which cannot be loaded"),
        ("collections:OrderedDict", "is no class of optimizers"),
        (f"{HERE}:net", "is no class of optimizers"),
    ],
)
def test_what_is_no_class_of_optimizers_is_refused(name, said):
    with pytest.raises(ModelError, match=said) as caught:
        build(net(), name)
    assert caught.value.where == "optimizer"


def test_muon_takes_its_own_arguments():
    optimizer = build(net(), "muon", args={"momentum": 0.8, "adjust_lr_fn": "original"})
    found = {g["momentum"] for g in optimizer.inner.param_groups if g["is_matrix"]}
    assert found == {0.8}
    with pytest.raises(ConfigError, match="takes no `betas`"):
        build(net(), "muon", args={"betas": (0.9, 0.9)})
    with pytest.raises(ConfigError, match="is not supported"):
        build(net(), "muon", args={"adjust_lr_fn": "mine"})


def test_muon_leaves_heads_and_embeddings_to_adamw():
    module = nn.ModuleDict({"lm_head": nn.Linear(8, 8), "proj": nn.Linear(8, 8)})
    groups = build(module, "muon").inner.param_groups
    assert [group["names"] for group in groups if group["is_matrix"]] == [["proj.weight"]]
