"""One tiny random model a family: the policy gives what transformers gives, row by row."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from tests.conformance.tiny import FLAT, ROWS, batch_of, build, config_of, policy_of
from tunesmith.data.batch import Batch
from tunesmith.errors import PatchError
from tunesmith.models.facts import read_facts
from tunesmith.models.policy import Want

LENGTHS = (7, 11, 1, 6)


def reference_model(family: str, dtype: torch.dtype) -> PreTrainedModel:
    """The same weights under transformers' own eager attention."""
    return build(family, dtype=dtype, attention="eager")


def own_logits(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Logits of transformers' own forward, one document at a time, laid end to end."""
    bounds = batch.segments.tolist()
    pieces = [
        model(input_ids=batch.inputs["input_ids"][None, start:end], use_cache=False).logits[0]
        for start, end in itertools.pairwise(bounds)
    ]
    return torch.cat(pieces)


def own_logps(model: PreTrainedModel, batch: Batch) -> Tensor:
    logps = F.log_softmax(own_logits(model, batch).double(), dim=-1)
    return logps.gather(-1, batch.targets["target_ids"][:, None])[:, 0]


@pytest.mark.parametrize("family", [*FLAT, *ROWS])
def test_logits_and_logps_are_the_models_own(family):
    batch = batch_of(LENGTHS)
    weights = batch.targets["weights"]
    # Grouped products of experts know no float64; norms and rotations are float32 in any case.
    experts = read_facts(config_of(family)).n_experts
    dtype = torch.float32 if experts else torch.float64
    with torch.no_grad():
        output = policy_of(build(family, dtype=dtype))(batch, Want(logits=True))
        logits = own_logits(reference_model(family, dtype), batch).double()
        logps = own_logps(reference_model(family, dtype), batch)
    assert logits.std() > 0.05, "the model says nothing, so the test would prove nothing"
    torch.testing.assert_close(output.logits_TV.double(), logits, atol=2e-5, rtol=1e-5)
    kept = weights != 0
    torch.testing.assert_close(output.logps_T[kept].double(), logps[kept], atol=2e-5, rtol=1e-5)
    assert not output.logps_T[~kept].any()


@pytest.mark.parametrize("family", [*FLAT, *ROWS])
@pytest.mark.parametrize("changed", [0, 1, 2])
def test_a_document_never_sees_another_one(family, changed):
    """The intervention: one document becomes another, and the rest stay equal to the bit."""
    lengths = (7, 11, 5)
    before = batch_of(lengths, seed=1)
    other = batch_of(lengths, seed=2)
    start, end = before.segments[changed : changed + 2].tolist()
    ids = before.inputs["input_ids"].clone()
    ids[start:end] = other.inputs["input_ids"][start:end]
    after = Batch(
        inputs=before.inputs | {"input_ids": ids},
        targets=before.targets,
        segments=before.segments,
        longest=before.longest,
        index=before.index,
        sources=before.sources,
    )
    policy = policy_of(build(family))
    with torch.no_grad():
        one, two = (policy(batch, Want(logits=True)).logits_TV for batch in (before, after))
    here = torch.zeros(len(ids), dtype=torch.bool)
    here[start:end] = True
    assert not torch.equal(one[here], two[here]), "the change must do something"
    if policy.architecture.n_experts:
        # Experts gather their tokens, so the shape of their products follows the routing.
        torch.testing.assert_close(one[~here], two[~here], atol=1e-6, rtol=1e-5)
    else:
        assert torch.equal(one[~here], two[~here])


def test_layers_that_drop_the_bounds_of_documents_are_an_error_and_not_a_leak():
    with pytest.raises(PatchError, match="did not hand"):
        policy_of(build("Nemotron"), layout="flat")(batch_of(LENGTHS), Want())


def test_the_intervention_catches_a_leak():
    """On a convolutional hybrid that is forced onto one axis, document B moves with document A."""
    policy = policy_of(build("Lfm2"), layout="flat")
    before, other = batch_of((7, 9), seed=1), batch_of((7, 9), seed=2)
    ids = before.inputs["input_ids"].clone()
    ids[:7] = other.inputs["input_ids"][:7]
    after = batch_of((7, 9), ids=[ids[:7], ids[7:]])
    with torch.no_grad():
        one, two = (policy(batch, Want(logits=True)).logits_TV for batch in (before, after))
    assert (one[7:] - two[7:]).abs().max() > 1e-6


@pytest.mark.parametrize("family", FLAT)
def test_flat_and_rows_agree(family):
    batch = batch_of(LENGTHS)
    with torch.no_grad():
        flat = policy_of(build(family), layout="flat")(batch, Want())
        rows = policy_of(build(family, attention="eager"), layout="rows")(batch, Want())
    torch.testing.assert_close(flat.logps_T, rows.logps_T, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", [*FLAT, *ROWS])
def test_facts_know_whether_documents_can_be_isolated(family):
    facts = read_facts(config_of(family))
    assert facts.isolates == (family in FLAT)
    assert bool(facts.isolates_why) != facts.isolates
    assert facts.head.known
    assert facts.blocks
