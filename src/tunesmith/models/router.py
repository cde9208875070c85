"""How evenly a mixture's router spreads tokens over its experts, per document.

Dimensions: T tokens, N documents, E experts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def balance(logits_TE: Sequence[Tensor], segments: Tensor, top_k: int) -> Tensor:
    """Return ``sum over documents of length * balance``, a scalar with a gradient.

    ``balance`` of one document is equations 4 to 6 of https://arxiv.org/abs/2101.03961 over all its
    layers, as transformers has it for a batch that holds this document alone: 1 x top_k where all
    experts are used alike. Made per document, it adds up over any packing.
    """
    lengths_N = (segments[1:] - segments[:-1]).long()
    n_tokens, n_experts = logits_TE[0].shape
    documents_T = torch.repeat_interleave(
        torch.arange(len(lengths_N), device=segments.device), lengths_N, output_size=n_tokens
    )
    used_NE = torch.zeros(len(lengths_N), n_experts, device=segments.device)
    wanted_NE = torch.zeros_like(used_NE)
    for layer_TE in logits_TE:
        shares_TE = layer_TE.float().softmax(dim=-1)
        chosen_TE = torch.zeros_like(shares_TE).scatter(
            -1, shares_TE.topk(top_k, dim=-1).indices, 1.0
        )
        used_NE = used_NE.index_add(0, documents_T, chosen_TE)
        wanted_NE = wanted_NE.index_add(0, documents_T, shares_TE)
    rows_N1 = (lengths_N * len(logits_TE)).clamp(min=1)[:, None]
    balance_N = n_experts * (used_NE / rows_N1 * (wanted_NE / rows_N1)).sum(-1)
    return (lengths_N * balance_N).sum()
