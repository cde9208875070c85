"""A batch counts its positions and moves as a whole."""

from __future__ import annotations

import numpy as np
import torch

from tunesmith.data.collate import collate
from tunesmith.data.samples import TokenSample


def test_all_tensors_move_and_the_rest_stays():
    one = TokenSample(np.arange(3, dtype=np.int32), ((1, 3, 1.0),), "a:1")
    batch = collate([one], index=(2, 1), capacity=4, pad_to=4)
    moved = batch.to("meta")
    tensors = [*moved.inputs.values(), *moved.targets.values(), moved.segments]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert (moved.longest, moved.index, moved.sources) == (3, (2, 1), ("a:1", ""))
    assert batch.segments.device == torch.device("cpu")
    assert batch.n_tokens == moved.n_tokens == 4


def test_a_sample_knows_its_weight():
    one = TokenSample(np.arange(5, dtype=np.int32), ((1, 3, 1.0), (4, 5, 0.25)), "a:1")
    assert one.total_weight == 2.25
    assert one.target_weights().tolist() == [0, 1, 1, 0, 0.25]
    assert len(one) == 5
