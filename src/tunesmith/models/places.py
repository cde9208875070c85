"""Where the tokens of a batch stand in a model's input, and how its output comes back.

Dimensions: T tokens of the batch, N documents, L longest document, X whatever the model gives.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from tunesmith.data.batch import Batch
from tunesmith.patches.attention import documents_given
from tunesmith.patches.plan import Layout


class Places:
    """One batch laid out for a model.

    "flat": one row of all documents, with their bounds for the attention function. "rows": one row
    a document, padded to the right.
    """

    def __init__(self, batch: Batch, layout: Layout) -> None:
        self._flat = layout == "flat"
        ids_T = batch.inputs["input_ids"]
        positions_T = batch.inputs["position_ids"]
        if self._flat:
            self.inputs: dict[str, Any] = {
                "input_ids": ids_T[None],
                "position_ids": positions_T[None],
                "cu_seq_lens_q": batch.segments,
                "cu_seq_lens_k": batch.segments,
                "max_length_q": batch.longest,
                "max_length_k": batch.longest,
            }
            return
        starts_N = batch.segments[:-1].long()
        lengths_N = batch.segments[1:].long() - starts_N
        steps_L = torch.arange(batch.longest, device=ids_T.device)
        real_NL = steps_L < lengths_N[:, None]
        source_NL = (starts_N[:, None] + steps_L).clamp(max=ids_T.numel() - 1)
        # Padding stands to the right of its document, so no real token sees it; its positions go
        # on counting, so that no restart is mistaken for another document.
        self.inputs = {
            "input_ids": torch.where(real_NL, ids_T[source_NL], ids_T[starts_N][:, None]),
            "position_ids": torch.where(real_NL, positions_T[source_NL], steps_L),
        }
        documents_T = torch.repeat_interleave(
            torch.arange(len(starts_N), device=ids_T.device), lengths_N, output_size=ids_T.numel()
        )
        offset_T = torch.arange(ids_T.numel(), device=ids_T.device) - starts_N[documents_T]
        self._back_T = documents_T * batch.longest + offset_T

    def promise(self) -> AbstractContextManager[None]:
        """The context in which the model is called."""
        return documents_given() if self._flat else nullcontext()

    def collect(self, output: Tensor) -> Tensor:
        """The model's output [.., .., X] as [T, X]."""
        return output[0] if self._flat else output.flatten(0, 1)[self._back_T]
