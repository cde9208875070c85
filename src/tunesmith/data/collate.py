"""Samples become a micro-batch: documents end to end, targets shifted inside each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tunesmith.data.batch import Batch
from tunesmith.data.samples import JudgedSample, StepSample, TokenSample, TrainedSample
from tunesmith.errors import DataError


def collate(
    samples: Sequence[TrainedSample],
    *,
    index: tuple[int, int],
    capacity: int,
    pad_to: int | None = None,
    pad_id: int = 0,
) -> Batch:
    """One batch of the documents of the samples, in their order.

    ``pad_to`` fills the axis up to so many tokens with documents of ``pad_id`` that weigh nothing
    and are at most ``capacity`` long. Without samples the batch is padding alone (one token where
    ``pad_to`` is not given), so that every rank has something to run.
    Raises ``DataError`` where the samples do not fit or a weight sits on a first token.
    """
    documents = [document for sample in samples for document in sample.documents]
    judged = [sample for sample in samples if isinstance(sample, JudgedSample)]
    strangers = [sample.stranger for sample in judged if sample.stranger is not None]
    lengths = [len(document) for document in documents]
    n_real = sum(lengths)
    n_tokens = max(n_real, pad_to or 0, 1)
    if pad_to is not None and n_real > pad_to:
        raise DataError(
            f"{len(documents)} documents of {n_real} tokens do not fit into {pad_to}",
            hint="pad to micro_batch_size x sequence_len",
            where=samples[0].source,
        )
    padding = pad_lengths(n_tokens - n_real, capacity)
    lengths += padding
    ids = np.full(n_tokens, pad_id, dtype=np.int64)
    targets = np.full(n_tokens, pad_id, dtype=np.int64)
    weights = np.zeros(n_tokens, dtype=np.float32)
    start = 0
    for document in documents:
        end = start + len(document)
        ids[start:end] = document.input_ids
        targets[start : end - 1] = document.input_ids[1:]
        weights[start : end - 1] = _shifted_weights(document)
        start = end
    ends = np.cumsum([0, *lengths])
    positions = np.arange(n_tokens) - np.repeat(ends[:-1], lengths)
    return Batch(
        inputs={"input_ids": torch.from_numpy(ids), "position_ids": torch.from_numpy(positions)},
        targets={
            "target_ids": torch.from_numpy(targets),
            "weights": torch.from_numpy(weights),
            **_step_labels(samples, n_tokens),
        },
        segments=torch.from_numpy(ends.astype(np.int32)),
        longest=max(lengths),
        index=index,
        sources=tuple(document.source for document in documents) + ("",) * len(padding),
        documents=_verdicts(samples, len(lengths)),
        strangers=collate(strangers, index=index, capacity=capacity) if strangers else None,
    )


def pad_lengths(n_tokens: int, capacity: int) -> list[int]:
    """Lengths of the padding documents that fill ``n_tokens``, each at most ``capacity``."""
    full, rest = divmod(n_tokens, capacity)
    return [capacity] * full + ([rest] if rest else [])


def _step_labels(samples: Sequence[TrainedSample], n_tokens: int) -> dict[str, torch.Tensor]:
    """The labels of the ends of steps, each where it stands; nothing where no step is judged."""
    if not any(isinstance(sample, StepSample) for sample in samples):
        return {}
    labels = np.zeros(n_tokens, dtype=np.int8)
    start = 0
    for sample in samples:
        for end, right in sample.ends if isinstance(sample, StepSample) else ():
            labels[start + end] = 1 if right else -1
        start += len(sample)
    return {"labels": torch.from_numpy(labels)}


def _verdicts(samples: Sequence[TrainedSample], n_documents: int) -> dict[str, torch.Tensor]:
    """Whether each judged answer is wanted, 0 for padding; nothing where none is judged."""
    verdicts = [sample.is_good for sample in samples if isinstance(sample, JudgedSample)]
    if not verdicts:
        return {}
    labels = np.zeros(n_documents, dtype=np.int8)
    labels[: len(verdicts)] = np.where(verdicts, 1, -1)
    return {"label": torch.from_numpy(labels)}


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
