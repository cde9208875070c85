"""Where the tokens of a batch stand in a model's input, and how its output comes back.

Dimensions: T tokens of the batch, N documents, L longest document, X whatever the model gives.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tunesmith.data.batch import Batch
from tunesmith.kernels.varlen import extent_of
from tunesmith.patches.attention import documents_given
from tunesmith.patches.plan import Layout


class Places:
    """One batch laid out for a model.

    "flat": one row of all documents, with their bounds for the attention function. "rows": one row
    a document, padded to the right.
    """

    def __init__(self, batch: Batch, layout: Layout) -> None:
        self._flat = layout == "flat"
        self._back_T: Tensor | None = None
        if self._flat:
            self.inputs = _on_one_axis(batch)
        else:
            self.inputs, self._back_T = _in_rows(batch)

    def promise(self) -> AbstractContextManager[None]:
        """The context in which the model is called."""
        return documents_given() if self._flat else nullcontext()

    def collect_rows(self, output: Tensor) -> Tensor:
        """What a layer gives for all rows at once, [.. * .., X], as [T, X]."""
        return output if self._back_T is None else output[self._back_T]

    def collect(self, output: Tensor) -> Tensor:
        """The model's output [.., .., X] as [T, X]."""
        return output[0] if self._back_T is None else output.flatten(0, 1)[self._back_T]


def _on_one_axis(batch: Batch) -> dict[str, Any]:
    """The model's input. Its shapes depend on T alone, so that a block is compiled once."""
    n_documents = len(batch.segments) - 1
    bounds = F.pad(batch.segments, (0, batch.n_tokens - n_documents), value=batch.n_tokens)
    extent = extent_of(n_documents, batch.longest)
    return {
        "input_ids": batch.inputs["input_ids"][None],
        "position_ids": batch.inputs["position_ids"][None],
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": extent,
        "max_length_k": extent,
    }


def _in_rows(batch: Batch) -> tuple[dict[str, Any], Tensor]:
    """The model's input, and for each token its place in the flattened rows."""
    ids_T, positions_T = batch.inputs["input_ids"], batch.inputs["position_ids"]
    n_tokens, device = ids_T.numel(), ids_T.device
    starts_N = batch.segments[:-1].long()
    lengths_N = batch.segments[1:].long() - starts_N
    steps_L = torch.arange(batch.longest, device=device)
    real_NL = steps_L < lengths_N[:, None]
    source_NL = (starts_N[:, None] + steps_L).clamp(max=n_tokens - 1)
    # Padding stands to the right of its document, so no real token sees it; its positions go on
    # counting, so that no restart is mistaken for another document.
    inputs = {
        "input_ids": torch.where(real_NL, ids_T[source_NL], ids_T[starts_N][:, None]),
        "position_ids": torch.where(real_NL, positions_T[source_NL], steps_L),
    }
    documents_T = torch.repeat_interleave(
        torch.arange(len(starts_N), device=device), lengths_N, output_size=n_tokens
    )
    offset_T = torch.arange(n_tokens, device=device) - starts_N[documents_T]
    return inputs, documents_T * batch.longest + offset_T
