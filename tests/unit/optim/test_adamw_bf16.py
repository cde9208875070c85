"""AdamW on bf16 weights: right in expectation, the same numbers whenever it is asked."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import torch

from tunesmith.optim import adamw_bf16
from tunesmith.optim.adamw_bf16 import AdamWBf16, random_words, round_stochastically

CPU = torch.device("cpu")


def build(parameter, name="w", seed=1, **args):
    return AdamWBf16([{"params": [parameter], "names": [name]}], seed=seed, **args)


def nearest(values, words):
    return values.to(torch.bfloat16)


def falling(steps):
    """Gradients that fall by 1/1000 of themselves a step: from 1 to 0.018 in 4,000."""
    return [math.exp(-step / 1000) for step in range(steps)]


def train_on_falling_gradients(rate=1e-5):
    """A bf16 run and the exact moments and weight in float64."""
    n, (beta1, beta2) = 512, (0.9, 0.999)
    parameter = torch.nn.Parameter(torch.ones(n, dtype=torch.bfloat16))
    optimizer = build(parameter, lr=rate)
    mean, square, weight = 0.0, 0.0, 1.0
    for step, gradient in enumerate(falling(4000), start=1):
        parameter.grad = torch.full((n,), gradient, dtype=torch.bfloat16)
        exact = float(parameter.grad[0])
        optimizer.step()
        mean = beta1 * mean + (1 - beta1) * exact
        square = beta2 * square + (1 - beta2) * exact**2
        root = math.sqrt(square / (1 - beta2**step)) + 1e-8
        weight -= rate * mean / (1 - beta1**step) / root
    state = optimizer.state[parameter]
    found = (parameter, state["exp_avg"], state["exp_avg_sq"])
    return [float(t.detach().double().mean()) for t in found], [weight, mean, square]


def test_four_thousand_steps_of_falling_gradients():
    (weight, mean, square), (exact_weight, exact_mean, exact_square) = train_on_falling_gradients()
    assert square == pytest.approx(exact_square, rel=0.03)
    assert mean == pytest.approx(exact_mean, rel=0.03)
    # The weight moved by a few hundredths, each step by less than half a bf16 unit.
    assert 1 - exact_weight > 0.01
    assert 1 - weight == pytest.approx(1 - exact_weight, rel=0.05)


def test_the_same_run_fails_when_rounded_to_nearest(monkeypatch):
    monkeypatch.setattr(adamw_bf16, "round_stochastically", nearest)
    (weight, _, square), (exact_weight, _, exact_square) = train_on_falling_gradients()
    assert square > 4 * exact_square
    assert weight == 1.0 > exact_weight


def test_float32_parameters_follow_torch():
    generator = torch.Generator().manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(40, 30, generator=generator))
    theirs = torch.nn.Parameter(ours.detach().double())
    args = {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}
    mine, reference = build(ours, **args), torch.optim.AdamW([theirs], **args)
    for _ in range(20):
        ours.grad = torch.randn(40, 30, generator=generator)
        theirs.grad = ours.grad.double()
        mine.step()
        reference.step()
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-6)


def test_bf16_follows_torch_in_the_mean():
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(1, generator=generator).to(torch.bfloat16)
    ours = torch.nn.Parameter(start.expand(20_000).clone())
    theirs = torch.nn.Parameter(start.double())
    args = {"lr": 0.003, "weight_decay": 0.1}
    mine, reference = build(ours, **args), torch.optim.AdamW([theirs], **args)
    for _ in range(50):
        gradient = torch.randn(1, generator=generator).to(torch.bfloat16)
        ours.grad, theirs.grad = gradient.expand(20_000).clone(), gradient.double()
        mine.step()
        reference.step()
    moved = float(ours.detach().double().mean()) - float(start)
    expected = float(theirs.detach()) - float(start)
    assert moved == pytest.approx(expected, rel=0.02)


def words_by_hand(n, start):
    """SplitMix64 in plain integers."""
    mask = (1 << 64) - 1
    words = []
    for index in range(n):
        z = (start + (index + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        words.append(z ^ (z >> 31))
    return words


def test_words_equal_plain_integers():
    key = (3, 17, "model.layers.0.weight", 2)
    start = int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little")
    found = random_words(1000, CPU, key).numpy().view(np.uint64).tolist()
    assert found == words_by_hand(1000, start)
    # The plain integers themselves, against published numbers (see the test of packing).
    assert words_by_hand(2, 1234567) == [6457827717110365317, 3203168211198807973]


def test_bits_are_even_and_unrelated():
    n = 1 << 18
    words = [random_words(n, CPU, (1, step, "w", 0)) for step in (1, 2)]
    streams = [(word >> shift) & 0xFFFF for word in words for shift in (0, 16, 32)]
    for bits in streams:
        counts = torch.bincount(bits >> 8, minlength=256).double()
        # 256 cells of 1,024: chi-square has mean 255 and deviation 22.6.
        assert abs(float(((counts - 1024) ** 2 / 1024).sum()) - 255) < 5 * 22.6
        neighbours = torch.stack((bits[1:], bits[:-1])).double()
        assert abs(float(torch.corrcoef(neighbours)[0, 1])) < 0.01
    relations = torch.corrcoef(torch.stack(streams).double()) - torch.eye(6)
    assert float(relations.abs().max()) < 0.01


def test_rounding_is_right_in_the_mean_and_between_neighbours():
    values = torch.tensor([1.001, -1.001, 3.14159, 1e-30, -2.7e20, 0.0]).repeat_interleave(1 << 15)
    rounded = round_stochastically(values, random_words(len(values), CPU, (0,))).float()
    by_value = list(zip(values.view(6, -1), rounded.view(6, -1), strict=True))
    for exact, found in by_value:
        unit = max(abs(float(exact[0])) * 2**-7, 1e-45)
        assert found.unique().numel() <= 2
        assert float((found - exact).abs().max()) <= unit
        assert abs(float((found.double() - exact.double()).mean())) <= unit * 0.01


def test_numbers_that_bf16_holds_are_kept_and_bad_ones_stay_bad():
    held = torch.tensor([1.0, -0.5, 0.0, 2.0**100, float("inf"), -float("inf")])
    bits = torch.full((6,), -1)
    assert torch.equal(round_stochastically(held, bits).float(), held)
    nan = torch.tensor([0x7FFFFFFF, -1], dtype=torch.int32).view(torch.float32)
    assert round_stochastically(nan, bits[:2]).isnan().all()


def test_weights_moments_and_chunks_draw_their_own_numbers(monkeypatch):
    monkeypatch.setattr(adamw_bf16, "CHUNK", 4096)
    halfway = 1 + 2**-8  # between 1 and its bf16 neighbour: each element shows one random bit
    monkeypatch.setattr(
        adamw_bf16, "adamw_update", lambda chunk, *_: (torch.full((4096,), halfway),) * 3
    )
    parameter = torch.nn.Parameter(torch.zeros(8192, dtype=torch.bfloat16))
    parameter.grad = torch.zeros_like(parameter)
    optimizer = build(parameter)
    optimizer.step()
    state = optimizer.state[parameter]
    kept = (parameter.detach(), state["exp_avg"], state["exp_avg_sq"])
    ups = torch.stack([part > 1 for tensor in kept for part in tensor.chunk(2)]).double()
    assert float((ups.mean(1) - 0.5).abs().max()) < 0.05
    assert float((torch.corrcoef(ups) - torch.eye(6)).abs().max()) < 0.08


def run(steps, *, name="w", seed=1, resumed_at=None):
    generator = torch.Generator().manual_seed(5)
    parameter = torch.nn.Parameter(torch.randn(300, generator=generator).to(torch.bfloat16))
    optimizer = build(parameter, name=name, seed=seed)
    for step in range(steps):
        if step == resumed_at:
            state = {k: v.clone() for k, v in optimizer.state[parameter].items()}
            parameter = torch.nn.Parameter(parameter.detach().clone())
            optimizer = build(parameter, name=name, seed=seed)
            optimizer.state[parameter] = state
        parameter.grad = torch.randn(300, generator=generator).to(torch.bfloat16)
        optimizer.step()
    return parameter.detach()


def test_random_numbers_depend_on_seed_name_and_step_alone():
    whole = run(6)
    torch.manual_seed(99)
    assert torch.equal(run(6), whole)
    assert torch.equal(run(6, resumed_at=3), whole)
    assert not torch.equal(run(6, seed=2), whole)
    assert not torch.equal(run(6, name="v"), whole)


def test_chunks_and_memory_layout_do_not_matter():
    values = torch.arange(12.0).reshape(3, 4) / 7
    whole, turned = (torch.nn.Parameter(values.to(torch.bfloat16)) for _ in range(2))
    turned.data = turned.data.t().contiguous().t()
    assert not turned.is_contiguous()
    for parameter in (whole, turned):
        parameter.grad = torch.full_like(parameter, 0.3)
        optimizer = build(parameter, lr=0.01)
        optimizer.step()
    assert torch.equal(whole, turned)


def test_random_numbers_are_of_the_element_and_not_of_the_chunk(monkeypatch):
    whole = run(6)
    monkeypatch.setattr(adamw_bf16, "CHUNK", 64)
    assert torch.equal(run(6), whole)
    key = (1, 2, "w")
    assert torch.equal(random_words(10, CPU, key)[4:], random_words(6, CPU, key, first=4))


def test_scale_and_flag_are_read_as_torchs_fused_optimizers_read_them():
    args = {"lr": 0.01, "weight_decay": 0.1}
    start = torch.randn(50, generator=torch.Generator().manual_seed(3))
    made = [torch.nn.Parameter(start.clone()) for _ in range(3)]
    for parameter in made:
        parameter.grad = torch.linspace(-1, 1, 50)
    made[0].grad *= 0.25
    build(made[0], **args).step()
    scaled = build(made[1], **args)
    scaled.grad_scale = torch.tensor(4.0)
    scaled.step()
    torch.testing.assert_close(made[0], made[1])
    skipped = build(made[2], **args)
    skipped.found_inf = torch.tensor(1.0)
    skipped.step()
    assert torch.equal(made[2].detach(), start)


@pytest.mark.parametrize("extra", [0, 5])
def test_long_parameters_are_updated_to_the_end(monkeypatch, extra):
    monkeypatch.setattr(adamw_bf16, "CHUNK", 64)
    parameter = torch.nn.Parameter(torch.zeros(128 + extra, dtype=torch.bfloat16))
    parameter.grad = torch.ones_like(parameter)
    build(parameter, lr=0.5).step()
    torch.testing.assert_close(
        parameter.detach().float(), torch.full((128 + extra,), -0.5), rtol=0.01, atol=0
    )
