"""Optimizers: built by name, equal to their own library, skipped, saved and loaded by name."""

from __future__ import annotations

import builtins
import importlib.util
import json

import bitsandbytes as bnb
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from tunesmith.catalog import OPTIMIZERS
from tunesmith.config.optim import OptimSection
from tunesmith.errors import ConfigError, ExitCode, ModelError, RunError
from tunesmith.optim.adamw_bf16 import AdamWBf16
from tunesmith.optim.build import build_optimizer, parse_args
from tunesmith.optim.groups import build_groups

CASES = [
    *((name, torch.float32) for name in sorted(OPTIMIZERS)),
    ("adamw_torch", torch.bfloat16),
    ("adamw_torch_fused", torch.bfloat16),
]


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


@pytest.fixture
def exceptions():
    """bitsandbytes' registry of exceptions, emptied afterwards: it is one for the process."""
    manager = bnb.optim.GlobalOptimManager.get_instance()
    yield manager
    manager.module_weight_config_triple.clear()
    manager.pid2config.clear()
    manager.index2config.clear()


def theirs(name, module, exceptions):
    """The same optimizer as transformers' Trainer builds it."""
    wide, narrow = module.wide.weight, module.narrow.weight
    decayed = [wide, narrow, module.unused.weight, module.table.weight]
    plain = [module.wide.bias, module.norm.weight, module.norm.bias]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    adam = {"lr": 0.01, "betas": (0.9, 0.95), "eps": 1e-6}
    if "8bit" in name:
        exceptions.register_module_override(module.table, "weight", {"optim_bits": 32})
        return bnb.optim.AdamW(groups, optim_bits=8, **adam)
    return {
        "adamw_torch": lambda: torch.optim.AdamW(groups, **adam),
        "adamw_torch_fused": lambda: torch.optim.AdamW(groups, fused=True, **adam),
        "sgd": lambda: torch.optim.SGD(groups, lr=0.01),
        "paged_adamw_32bit": lambda: bnb.optim.AdamW(groups, optim_bits=32, **adam),
    }[name]()


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_updates_are_those_of_the_library(name, exceptions):
    ours, reference = net(), net()
    train(ours, build(ours, name), 4)
    optimizer = theirs(name, reference, exceptions)
    for step in range(4):
        optimizer.zero_grad()
        backward(reference, step)
        for group in optimizer.param_groups:
            group["lr"] = 0.01 / (1 + step)
        optimizer.step()
    assert_equal(weights(ours), weights(reference))
    assert not torch.equal(ours.wide.weight, net().wide.weight)


@pytest.mark.parametrize("name", ["adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit"])
def test_eight_bits_are_used_but_for_embeddings(name):
    module = net()
    optimizer = build(module, name)
    train(module, optimizer, 1)
    states = optimizer.state_tensors()
    assert states["state1.wide.weight"].dtype == torch.uint8
    assert states["state1.table.weight"].dtype == torch.float32


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_state_round_trips_bit_by_bit(name, dtype):
    whole = net(dtype)
    optimizer = build(whole, name)
    train(whole, optimizer, 3)
    # As a checkpoint does it: tensors through safetensors, the rest through JSON.
    tensors = load(save({key: t.contiguous() for key, t in optimizer.state_tensors().items()}))
    scalars = json.loads(json.dumps(optimizer.state_scalars()))
    resumed = net(dtype)
    resumed.load_state_dict(whole.state_dict())
    again = build(resumed, name)
    again.load_state(tensors, scalars)
    assert_equal(again.state_tensors(), optimizer.state_tensors())
    assert again.state_scalars() == optimizer.state_scalars()
    train(whole, optimizer, 3, begin=3)
    train(resumed, again, 3, begin=3)
    assert_equal(weights(resumed), weights(whole))
    assert_equal(again.state_tensors(), optimizer.state_tensors())


def test_a_loaded_state_is_a_copy():
    module = net()
    optimizer = build(module)
    train(module, optimizer, 1)
    tensors = {name: tensor.clone() for name, tensor in optimizer.state_tensors().items()}
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    again = build(module)
    again.load_state(tensors, optimizer.state_scalars())
    train(module, again, 1)
    assert_equal(tensors, kept)


def test_states_are_named_by_parameter():
    module = net()
    optimizer = build(module)
    assert optimizer.state_tensors() == {}
    train(module, optimizer, 1)
    names = {name for name in weights(module) if not name.startswith("unused")}
    kinds = ("step", "exp_avg", "exp_avg_sq")
    assert set(optimizer.state_tensors()) == {f"{kind}.{name}" for kind in kinds for name in names}
    assert optimizer.state_scalars() == {"optimizer": "AdamW", "stateless": ["unused.weight"]}


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_a_bad_step_is_skipped(name, dtype):
    module = net(dtype)
    optimizer = build(module, name)
    train(module, optimizer, 2)
    before = weights(module)
    state = {key: tensor.clone() for key, tensor in optimizer.state_tensors().items()}
    backward(module, 2)
    module.wide.weight.grad[0, 0] = float("nan")
    optimizer.step(torch.tensor(True))
    assert_equal(weights(module), before)
    assert_equal(dict(optimizer.state_tensors()), state)
    # The flag is not remembered, and good steps count as usual, with a flag and without.
    for step, flag in ((3, None), (4, torch.tensor(False))):
        before = weights(module)
        optimizer.zero_grad()
        backward(module, step)
        optimizer.step(flag)
        assert not torch.equal(module.wide.weight, before["wide.weight"])
    assert all(tensor.isfinite().all() for tensor in weights(module).values())


def test_fused_never_reads_the_flag_on_the_host(monkeypatch):
    module = net()
    optimizer = build(module, "adamw_torch_fused")
    backward(module, 0)
    flag = torch.tensor(False)
    for method in ("item", "__bool__", "__float__", "__int__", "tolist", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, method, lambda *_: pytest.fail("the host read a value"))
    optimizer.step(flag)


def test_rates_follow_the_multiplier():
    optimizer = build(net())
    optimizer.set_rate(0.25)
    assert optimizer.rate == 0.0025
    optimizer.set_rate(0.5)
    assert [group["lr"] for group in optimizer.inner.param_groups] == [0.005] * 3


def damaged(tensors, scalars, how):
    if how == "one tensor lost":
        del tensors["exp_avg.wide.bias"]
    elif how == "one parameter lost":
        for kind in ("step", "exp_avg", "exp_avg_sq"):
            del tensors[f"{kind}.wide.bias"]
    elif how == "another parameter":
        tensors["exp_avg.other"] = torch.zeros(1)
    elif how == "another shape":
        tensors["exp_avg.wide.bias"] = torch.zeros(61)
    else:
        scalars["optimizer"] = "SGD"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("one tensor lost", "`exp_avg.wide.bias` is missing"),
        ("one parameter lost", "`wide.bias` is on one side only"),
        ("another parameter", "`other` is on one side only"),
        ("another shape", r"`exp_avg.wide.bias` is \[61\], not \[60\]"),
        ("another optimizer", "it is of SGD, and this one is AdamW"),
    ],
)
def test_a_state_of_something_else_is_refused_and_nothing_changes(how, said):
    module = net()
    optimizer = build(module)
    train(module, optimizer, 2)
    before = {name: tensor.clone() for name, tensor in optimizer.state_tensors().items()}
    tensors, scalars = dict(before), optimizer.state_scalars()
    damaged(tensors, scalars, how)
    with pytest.raises(RunError, match=said) as caught:
        optimizer.load_state(tensors, scalars)
    assert caught.value.exit_code is ExitCode.DAMAGED
    assert_equal(optimizer.state_tensors(), before)


@pytest.mark.parametrize("lost", ["absmax1.wide.weight", "state1.norm.bias"])
def test_a_damaged_eight_bit_state_is_refused_and_nothing_changes(lost):
    module = net()
    optimizer = build(module, "adamw_8bit")
    train(module, optimizer, 2)
    tensors = {name: tensor.clone() for name, tensor in optimizer.state_tensors().items()}
    kept = dict(tensors)
    del tensors[lost]
    with pytest.raises(RunError, match="on one side only"):
        optimizer.load_state(tensors, optimizer.state_scalars())
    assert_equal(optimizer.state_tensors(), kept)


def test_bf16_weights_round_stochastically():
    for name in ("adamw_torch", "adamw_torch_fused"):
        optimizer = build(net(torch.bfloat16), name)
        assert isinstance(optimizer.inner, AdamWBf16)
        assert optimizer.inner.seed == 11


@pytest.mark.parametrize(
    ("args", "parsed"),
    [
        (None, {}),
        ({"momentum": 0.9}, {"momentum": 0.9}),
        ("momentum=0.9, nesterov=True", {"momentum": 0.9, "nesterov": True}),
        ("betas=(0.9, 0.95),eps=1e-8", {"betas": (0.9, 0.95), "eps": 1e-8}),
        ("a=[1,2],b=x,c=false,d=none", {"a": [1, 2], "b": "x", "c": False, "d": None}),
    ],
)
def test_arguments_are_read(args, parsed):
    assert parse_args(args) == parsed


def test_arguments_reach_the_optimizer():
    sgd = build(net(), "sgd", args="momentum=0.9,nesterov=true")
    assert sgd.inner.param_groups[0]["momentum"] == 0.9
    assert sgd.inner.param_groups[1]["nesterov"] is True
    adam = build(net(), "adamw_torch_fused", args={"betas": [0.5, 0.6], "amsgrad": True})
    assert list(adam.inner.param_groups[0]["betas"]) == [0.5, 0.6]
    assert adam.inner.param_groups[0]["amsgrad"] is True
    assert adam.inner.param_groups[0]["eps"] == 1e-6


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("adamw_torhc", None, "there is no optimizer `adamw_torhc`"),
        ("adamw_torch", "momentum=0.9", "takes no `momentum`"),
        ("adamw_torch", "momentum", "`momentum` is no `name=value`"),
        ("adamw_torch", {"lr": 0.1}, "takes no `lr` here"),
        ("adamw_torch_fused", {"foreach": True}, "`fused` and `foreach`"),
        ("adamw_8bit", {"optim_bits": 32}, "takes no `optim_bits`"),
        ("adamw_torch", {"betas": [2.0, 0.9]}, "Invalid beta parameter"),
        ("sgd", {"nesterov": True}, "Nesterov"),
    ],
)
def test_what_cannot_be_built_is_refused(name, args, said):
    with pytest.raises(ConfigError, match=said) as caught:
        build(net(), name, args=args)
    assert caught.value.hint


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "tunesmith.optim.build.find_spec",
        lambda name: None if name == "bitsandbytes" else found(name),
    )
    with pytest.raises(ModelError, match="bitsandbytes") as caught:
        build(net(), "adamw_8bit")
    assert "tunesmith[bnb]" in caught.value.hint


def test_torch_optimizers_do_not_import_bitsandbytes(monkeypatch):
    real = builtins.__import__

    def guarded(name, *args, **kwargs):
        assert not name.startswith("bitsandbytes")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", guarded)
    for name in ("adamw_torch", "adamw_torch_fused", "sgd"):
        build(net(), name)


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_a_bowl_is_descended(name, dtype):
    bowl = nn.Linear(100, 50, bias=False).to(dtype)
    with torch.no_grad():
        bowl.weight.fill_(1.0)
    optimizer = build(bowl, name, learning_rate=0.02, weight_decay=0.0)
    for _ in range(100):
        optimizer.zero_grad()
        (bowl.weight.float().square().sum() / 2).backward()
        optimizer.step()
    assert float(bowl.weight.detach().abs().mean()) < 0.2
