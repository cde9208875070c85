"""A small module with every kind of parameter, and an optimizer over it."""

from __future__ import annotations

import torch
from torch import nn

from tunesmith.config.optim import OptimSection
from tunesmith.optim.build import build_optimizer
from tunesmith.optim.groups import build_groups


class Net(nn.Module):
    """One matrix beyond bitsandbytes' 4,096 elements, a norm, a bias, and one unused parameter."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Linear(80, 60)
        self.norm = nn.LayerNorm(60)
        self.narrow = nn.Linear(60, 3, bias=False)
        self.table = nn.Embedding(80, 60)
        self.unused = nn.Linear(2, 2, bias=False)

    def forward(self, x):
        looked_up = self.table(x[:, 0].float().abs().mul(10).long())
        return self.narrow(self.norm(torch.tanh(self.wide(x)) + looked_up))


def section(name="adamw_torch", **keys):
    keys = {"learning_rate": 0.01, "weight_decay": 0.1, "beta2": 0.95, "epsilon": 1e-6} | keys
    return OptimSection(optimizer=name, **keys)


def net(dtype=torch.float32):
    torch.manual_seed(0)
    return Net().to(dtype)


def build(module, name="adamw_torch", **keys):
    chosen = section(name, **keys)
    return build_optimizer(build_groups(module, chosen), chosen, "cpu", seed=11)


def backward(module, step):
    generator = torch.Generator().manual_seed(step)
    dtype = module.wide.weight.dtype
    x = torch.randn(8, 80, generator=generator).to(dtype)
    module(x).float().square().sum().backward()


def train(module, optimizer, steps, begin=0):
    for step in range(begin, begin + steps):
        optimizer.zero_grad()
        backward(module, step)
        optimizer.set_rate(1.0 / (1 + step))
        optimizer.step()


def weights(module):
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype, name
        assert torch.equal(tensor, theirs[name]), name
