from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from tests.conformance.tiny import batch_of, build, policy_of
from tunesmith.data.samples import TokenSample
from tunesmith.objectives.sft import Sft


def test_a_samples_weight_is_the_sum_of_its_targets_weights():
    sample = TokenSample(np.arange(9, dtype=np.int32), ((2, 5, 1.0), (6, 8, 0.25)), "a.jsonl:1")
    assert Sft().weights(sample) == {"tokens": 3.5}
    assert Sft().linear


def test_the_loss_is_the_weighted_sum_of_cross_entropies():
    batch = batch_of((6, 9))
    model = build("Llama", dtype=torch.float64)
    loss = Sft().loss(policy_of(model), batch)
    assert loss.sums.keys() == {"tokens"}
    assert loss.metrics == {}
    expected = 0.0
    for start, end in ((0, 6), (6, 15)):
        logits = model(batch.inputs["input_ids"][None, start:end], use_cache=False).logits[0]
        targets = batch.targets["target_ids"][start:end]
        losses = F.cross_entropy(logits, targets, reduction="none")
        expected = expected + (losses * batch.targets["weights"][start:end]).sum()
    torch.testing.assert_close(loss.sums["tokens"], expected, atol=1e-6, rtol=1e-6)
    assert loss.sums["tokens"].requires_grad


def test_sums_over_any_split_of_the_documents_add_up():
    model = build("Llama", dtype=torch.float64)
    whole = batch_of((6, 9))
    ids = whole.inputs["input_ids"]
    one, two = batch_of((6,), ids=[ids[:6]]), batch_of((9,), ids=[ids[6:]])
    one.targets["weights"].copy_(whole.targets["weights"][:6])
    two.targets["weights"].copy_(whole.targets["weights"][6:])
    total, first, second = (
        Sft().loss(policy_of(model), batch).sums["tokens"] for batch in (whole, one, two)
    )
    torch.testing.assert_close(total, first + second, atol=1e-9, rtol=1e-9)
