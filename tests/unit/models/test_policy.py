from __future__ import annotations

import itertools
import logging

import pytest
import torch
from torch.nn import functional as F

from tests.conformance.tiny import VOCAB, batch_of, build, policy_of
from tunesmith.config.adapters import AdaptersSection
from tunesmith.models.adapters import add_adapter
from tunesmith.models.facts import read_facts
from tunesmith.models.policy import Policy, Want, seed_dropout

LENGTHS = (9, 4, 12)


def reference_loss(model, batch):
    """transformers alone: its own forward, row by row, and the definition of the loss."""
    total = 0.0
    edges = batch.segments.tolist()
    for start, end in itertools.pairwise(edges):
        ids = batch.inputs["input_ids"][None, start:end]
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
        losses = F.cross_entropy(logits, ids[0, 1:], reduction="none")
        total = total + (losses * batch.targets["weights"][start : end - 1]).sum()
    return total


def gradients(model):
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def adapted(family="Llama", dtype=torch.float64, attention="tunesmith_varlen", **section):
    model = build(family, dtype=dtype, attention=attention)
    section = {"kind": "lora", "target_linear": True, "rank": 4} | section
    add_adapter(model, AdaptersSection(**section), 0, base_name="base")
    model.to(dtype)
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                # B is zero at the start, which would hide a wrong gradient of A.
                parameter += 0.1 * torch.randn(parameter.shape, generator=draw, dtype=dtype)
    return model


MODELS = {
    "full": lambda **kind: build("Llama", **kind),
    "full, tied": lambda **kind: build("Llama", tie_word_embeddings=True, **kind),
    "full, capped": lambda **kind: build("Gemma2", **kind),
    "full, scaled": lambda **kind: build("Cohere", **kind),
    "lora": adapted,
    "lora on the head": lambda **kind: adapted(
        target_linear=False, target_modules=("q_proj", "lm_head"), **kind
    ),
    "head trains whole": lambda **kind: adapted(modules_to_save=("lm_head",), **kind),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 2e-4)], ids=["f64", "f32"]
)
def test_loss_and_gradients_are_plain_transformers(name, fused, dtype, tolerance):
    batch = batch_of(LENGTHS)
    ours = MODELS[name](dtype=dtype)
    theirs = MODELS[name](dtype=dtype, attention="eager")
    want = Want(coefficients_T=batch.targets["weights"]) if fused else Want()
    output = policy_of(ours)(batch, want)
    value = output.dot if fused else (batch.targets["weights"] * output.logps_T).sum()
    expected = reference_loss(theirs, batch)
    torch.testing.assert_close(-value, expected, atol=tolerance, rtol=tolerance)
    (-value / 7).backward()
    (expected / 7).backward()
    got, wanted = gradients(ours), gradients(theirs)
    assert got.keys() == wanted.keys()
    assert any(g.abs().max() > 1e-3 for g in wanted.values())
    for key in wanted:
        torch.testing.assert_close(
            got[key], wanted[key], atol=tolerance, rtol=tolerance, msg=lambda m, k=key: f"{k}: {m}"
        )


def test_a_lora_on_the_head_is_not_ignored():
    batch = batch_of(LENGTHS)
    model = adapted(target_linear=False, target_modules=("lm_head",))
    with torch.no_grad():
        one = policy_of(model)(batch, Want(coefficients_T=batch.targets["weights"])).dot
        two = policy_of(build("Llama", dtype=torch.float64))(
            batch, Want(coefficients_T=batch.targets["weights"])
        ).dot
    assert abs(one - two) > 0.01


def test_what_was_not_wanted_is_none():
    batch = batch_of(LENGTHS)
    policy = policy_of(build("Llama"))
    output = policy(batch, Want())
    assert output.dot is None
    assert output.logits_TV is None
    assert output.hidden_TD is None
    output = policy(batch, Want(logps=False, hidden=True, logits=True))
    assert output.logps_T is None
    assert output.logits_TV.shape == (batch.n_tokens, VOCAB)
    assert output.hidden_TD.shape == (batch.n_tokens, policy.architecture.hidden)


def test_a_batch_without_targets_gives_zero_and_zero_gradients():
    batch = batch_of(LENGTHS)
    batch.targets["weights"].zero_()
    model = build("Llama")
    output = policy_of(model)(batch, Want(coefficients_T=batch.targets["weights"]))
    assert output.dot.item() == 0
    output.dot.backward()
    grads = gradients(model)
    assert "lm_head.weight" in grads
    assert not any(g.any() for g in grads.values())


def test_an_unknown_head_falls_back_to_the_models_own_logits_aloud(caplog):
    batch = batch_of(LENGTHS)
    model = build("Llama")
    known = policy_of(model)
    facts = read_facts(build("Gemma2").config)
    object.__setattr__(facts, "head", type(facts.head)(known=False))
    with caplog.at_level(logging.WARNING, logger="tunesmith"):
        unknown = Policy(model, facts, layout="flat")
    assert "its own forward" in caplog.text
    weights = batch.targets["weights"]
    for want in (Want(), Want(coefficients_T=weights)):
        one, two = known(batch, want), unknown(batch, want)
        torch.testing.assert_close(one.logps_T, two.logps_T)
        if want.coefficients_T is not None:
            torch.testing.assert_close(one.dot, two.dot)
            torch.testing.assert_close(
                torch.autograd.grad(one.dot, model.lm_head.weight),
                torch.autograd.grad(two.dot, model.lm_head.weight),
                atol=1e-5,
                rtol=1e-4,
            )


def test_float32_adapters_and_norms_beside_a_bfloat16_base_compute_in_bfloat16():
    batch = batch_of(LENGTHS)
    model = build("Llama", dtype=torch.bfloat16)
    section = AdaptersSection(
        kind="lora", target_linear=True, modules_to_save=("norm", "lm_head", "embed_tokens")
    )
    add_adapter(model, section, 0, base_name="base")
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    policy = Policy(model, read_facts(model.config), layout="flat", compute_dtype=torch.bfloat16)
    exact = policy_of(build("Llama", dtype=torch.bfloat16).float())
    for want in (Want(), Want(coefficients_T=batch.targets["weights"])):
        output = policy(batch, want)
        torch.testing.assert_close(
            output.logps_T, exact(batch, Want()).logps_T, atol=0.15, rtol=0.05
        )
        loss = output.logps_T.sum() if output.dot is None else output.dot
        loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_dropout_is_a_function_of_seed_and_index():
    batch = batch_of(LENGTHS)
    policy = policy_of(adapted(dropout=0.5, dtype=torch.float32)).train()

    def run(seed, index):
        seed_dropout(seed, index)
        return policy(batch, Want()).logps_T

    assert torch.equal(run(1, (3, 0)), run(1, (3, 0)))
    for other in ((2, (3, 0)), (1, (4, 0)), (1, (3, 1))):
        assert not torch.equal(run(1, (3, 0)), run(*other))
