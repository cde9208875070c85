"""What an objective of pairs reads from a batch, against whole logits of plain transformers."""

from __future__ import annotations

import math

import pytest
import torch

from tests.unit.objectives.answers import CAPACITY, objective, pairs, policy, totals_of
from tests.unit.objectives.compared import Pair, scores_of
from tunesmith.config.objective import ObjectiveSection
from tunesmith.data.collate import collate
from tunesmith.objectives.objective import document_logps
from tunesmith.objectives.pairs import Pairs
from tunesmith.objectives.reference import FrozenCopy, Referenced
from tunesmith.patches.patch import applied
from tunesmith.patches.plan import VARLEN


@pytest.fixture(autouse=True)
def varlen():
    with applied([VARLEN]):
        yield


def plain(sample):
    start = sample.chosen.runs[0][0]
    chosen, rejected = (one.input_ids.tolist() for one in sample.documents)
    return Pair(tuple(chosen[:start]), tuple(chosen[start:]), tuple(rejected[start:]))


@pytest.mark.parametrize(
    ("keys", "asked"),
    [
        ({"method": "dpo"}, {}),
        ({"method": "orpo"}, {"document": True}),
        ({"method": "dpo", "tail_weight": 0.3, "loss_types": ("sigmoid", "sft")}, {}),
        ({"method": "dpo", "use_weighting": True}, {"likelihoods": True}),
    ],
    ids=["plain", "whole documents", "tails", "weighted"],
)
def test_scores_are_those_of_whole_logits(keys, asked):
    samples, model, reference = pairs(4), policy(), policy(seed=9)
    made = Pairs(ObjectiveSection(**keys))
    batch = collate(samples, index=(0, 0), capacity=CAPACITY, pad_to=100)
    batch = Referenced(made, FrozenCopy(reference, model)).asked(model, batch)
    scores = made.scores(model, batch)
    tail = keys.get("tail_weight", 1.0)
    wanted = scores_of(model.model, reference.model, [plain(one) for one in samples], tail, **asked)
    names = ["chosen_P", "rejected_P", "reference_chosen_P", "reference_rejected_P"]
    names += ["chosen_lengths_P", "rejected_lengths_P"]
    if "document" in asked or "sft" in keys.get("loss_types", ()):
        names.append("chosen_text_P")
    if "likelihoods" in asked:
        names.append("likelihoods_P")
    for name in names:
        found = getattr(scores, name)
        torch.testing.assert_close(found, getattr(wanted, name).double(), atol=1e-6, rtol=1e-6)
    assert scores.chosen_P.requires_grad
    assert not scores.reference_chosen_P.requires_grad


def test_a_policy_that_is_its_reference_loses_the_logarithm_of_two():
    samples, model = pairs(3), policy()
    made = Referenced(Pairs(ObjectiveSection(method="dpo")), FrozenCopy(policy(), model))
    batch = collate(samples, index=(0, 0), capacity=CAPACITY)
    loss = made.loss(model, batch)
    assert float(loss.sums["pairs"].detach()) / 3 == pytest.approx(math.log(2), abs=1e-12)
    assert float(loss.metrics["rewards/margins"].total) == 0.0


def test_a_known_reference_is_not_asked_again():
    samples, model = pairs(3), policy()

    def refuse(*_):
        raise AssertionError("it is in the batch")

    batch = collate(samples, index=(0, 0), capacity=CAPACITY)
    live = objective(method="dpo")
    asked = live.asked(model, batch)
    known = Referenced(Pairs(ObjectiveSection(method="dpo")), refuse)
    one, other = live.loss(model, batch), known.loss(model, asked)
    assert torch.equal(one.sums["pairs"], other.sums["pairs"])


def test_padding_alone_has_a_loss_of_nothing():
    model = policy()
    for keys in ({"method": "dpo"}, {"method": "orpo"}, {"method": "kto"}):
        made = objective(**keys)
        batch = collate([], index=(0, 0), capacity=CAPACITY, pad_to=8)
        loss = made.loss(model, batch)
        total = sum(loss.sums.values())
        assert float(total.detach()) == 0.0
        total.backward()


def test_a_pair_weighs_one_and_its_chosen_tokens_where_they_count():
    (sample,) = pairs(1)
    trained = float(sample.n_trained)
    by_keys = {
        ("dpo", ("sigmoid",)): {},
        ("dpo", ("sigmoid", "sft")): {"tokens": sample.chosen.total_weight},
        ("orpo", ("sigmoid",)): {"tokens": len(sample.chosen) - 1.0},
    }
    for (method, losses), tokens in by_keys.items():
        made = Pairs(ObjectiveSection(method=method, loss_types=losses))
        assert totals_of(made, [sample]) == {"pairs": 1.0, "trained": trained, **tokens}


def test_log_probs_of_documents_are_sums_by_weight():
    samples, model = pairs(2), policy()
    batch = collate(samples, index=(0, 0), capacity=CAPACITY)
    found = document_logps(model, batch)
    for number, document in enumerate(one for pair in samples for one in pair.documents):
        ids = torch.from_numpy(document.input_ids.astype("int64"))
        table = model.model(ids[None], use_cache=False).logits[0, :-1].log_softmax(-1)
        every = table.gather(1, ids[1:, None]).squeeze(1)
        weights = torch.from_numpy(document.target_weights()[1:])
        torch.testing.assert_close(found[number], (every * weights).sum(), atol=1e-6, rtol=1e-6)
