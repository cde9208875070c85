"""Samples become a micro-batch: documents end to end, targets shifted inside each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tunesmith.data.batch import Batch
from tunesmith.data.samples import TokenSample
from tunesmith.errors import DataError


def collate(
    samples: Sequence[TokenSample],
    *,
    index: tuple[int, int],
    capacity: int,
    pad_to: int | None = None,
    pad_id: int = 0,
) -> Batch:
    """One batch of the samples, in their order.

    ``pad_to`` fills the axis up to so many tokens with documents of ``pad_id`` that weigh nothing
    and are at most ``capacity`` long. Without samples the batch is padding alone (one token where
    ``pad_to`` is not given), so that every rank has something to run.
    Raises ``DataError`` where the samples do not fit or a weight sits on a first token.
    """
    lengths = [len(sample) for sample in samples]
    n_real = sum(lengths)
    n_tokens = max(n_real, pad_to or 0, 1)
    if pad_to is not None and n_real > pad_to:
        raise DataError(
            f"{len(samples)} documents of {n_real} tokens do not fit into {pad_to}",
            hint="pad to micro_batch_size x sequence_len",
            where=samples[0].source,
        )
    padding = pad_lengths(n_tokens - n_real, capacity)
    lengths += padding
    ids = np.full(n_tokens, pad_id, dtype=np.int64)
    targets = np.full(n_tokens, pad_id, dtype=np.int64)
    weights = np.zeros(n_tokens, dtype=np.float32)
    start = 0
    for sample in samples:
        end = start + len(sample)
        ids[start:end] = sample.input_ids
        targets[start : end - 1] = sample.input_ids[1:]
        weights[start : end - 1] = _shifted_weights(sample)
        start = end
    ends = np.cumsum([0, *lengths])
    positions = np.arange(n_tokens) - np.repeat(ends[:-1], lengths)
    return Batch(
        inputs={"input_ids": torch.from_numpy(ids), "position_ids": torch.from_numpy(positions)},
        targets={"target_ids": torch.from_numpy(targets), "weights": torch.from_numpy(weights)},
        segments=torch.from_numpy(ends.astype(np.int32)),
        longest=max(lengths),
        index=index,
        sources=tuple(sample.source for sample in samples) + ("",) * len(padding),
    )


def pad_lengths(n_tokens: int, capacity: int) -> list[int]:
    """Lengths of the padding documents that fill ``n_tokens``, each at most ``capacity``."""
    full, rest = divmod(n_tokens, capacity)
    return [capacity] * full + ([rest] if rest else [])


def _shifted_weights(sample: TokenSample) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """The weight of the *next* token at each position but the last."""
    if len(sample) == 0:
        raise DataError(
            "a document without tokens cannot be trained on",
            hint="prepare the data again",
            where=sample.source,
        )
    if sample.runs and sample.runs[0][0] < 1:
        raise DataError(
            "the first token of a document carries a weight, and nothing predicts it",
            hint="start the trained runs at token 1",
            where=sample.source,
        )
    return sample.target_weights()[1:]
