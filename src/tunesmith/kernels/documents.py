"""Causal attention one document at a time: the reference, and what no fast kernel does.

Dimensions: H query heads, K key and value heads, T tokens, L tokens of one document, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Scoring:
    """How scores become shares.

    ``scaling`` multiplies the products. ``window`` counts the keys that a query sees, itself
    included. ``softcap`` makes it ``softcap * tanh(score / softcap)``. ``sinks`` [H] are extra
    logits that take part in the softmax and carry no value. ``dropout`` drops shares.
    """

    scaling: float
    window: int | None = None
    softcap: float | None = None
    dropout: float = 0.0
    sinks: Tensor | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the operator of ``kernels.varlen`` computes it: a softmax, at most a window."""
        return self.softcap is None and self.sinks is None and not self.dropout


def by_document(
    q_1HTD: Tensor, k_1KTD: Tensor, v_1KTD: Tensor, segments: Tensor, scoring: Scoring
) -> Tensor:
    """Return the attention output, [1, H, T, D]; ``segments`` (int32 [N + 1]) is read on the host.

    Bit-equal, for each document, to the document alone.
    """
    plain = scoring.softcap is None and scoring.sinks is None
    groups = q_1HTD.shape[1] // k_1KTD.shape[1]
    outputs = []
    for start, end in pairwise(segments.tolist()):
        k, v = (t[:, :, start:end].repeat_interleave(groups, 1) for t in (k_1KTD, v_1KTD))
        q = q_1HTD[:, :, start:end]
        outputs.append(causal(q, k, v, scoring) if plain else attend(q, k, v, scoring))
    return torch.cat(outputs, dim=2)


def by_document_backward(
    grad_THD: Tensor, inputs: tuple[Tensor, Tensor, Tensor], segments: Tensor, scoring: Scoring
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of (q [T, H, D], k [T, K, D], v [T, K, D]) of a plain softmax, in their dtypes.

    Written out, since an operator's backward runs where torch differentiates nothing.
    """
    q, k, v = inputs
    groups = q.shape[1] // k.shape[1]
    gradients = [torch.empty_like(t, memory_format=torch.contiguous_format) for t in inputs]
    wide = torch.promote_types(q.dtype, torch.float32)
    for start, end in pairwise(segments.tolist()):
        q_HLD, g_HLD = (t[start:end].transpose(0, 1).to(wide) for t in (q, grad_THD))
        k_HLD, v_HLD = (
            t[start:end].transpose(0, 1).to(wide).repeat_interleave(groups, 0) for t in (k, v)
        )
        scores = (q_HLD @ k_HLD.mT) * scoring.scaling
        unseen = ~seen_keys(q_HLD[None], k_HLD[None], scoring.window)
        shares = F.softmax(scores.masked_fill_(unseen, float("-inf")), dim=-1)
        slopes = g_HLD @ v_HLD.mT
        slopes = shares * (slopes - (slopes * shares).sum(-1, keepdim=True)) * scoring.scaling
        found = (slopes @ k_HLD, slopes.mT @ q_HLD, shares.mT @ g_HLD)
        for into, part in zip(gradients, found, strict=True):
            heads = part.view(into.shape[1], -1, *part.shape[1:]).sum(1)
            into[start:end] = heads.transpose(0, 1)
    return gradients[0], gradients[1], gradients[2]


def causal(q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> Tensor:
    """One document, [1, H, L, D], equal heads; the fast kernels know causality but no window."""
    windowed = scoring.window is not None and scoring.window < q.shape[2]
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=seen_keys(q, k, scoring.window) if windowed else None,
        dropout_p=scoring.dropout,
        is_causal=not windowed,
        scale=scoring.scaling,
    )


def attend(q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, mask: Tensor | None = None) -> Tensor:
    """Plain products, with what no fast kernel does; the softmax is float32 or wider."""
    mask = seen_keys(q, k, scoring.window) if mask is None else mask
    scores = (q @ k.transpose(2, 3)) * scoring.scaling
    if scoring.softcap is not None:
        scores = scoring.softcap * torch.tanh(scores / scoring.softcap)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    else:
        scores = scores + mask
    if scoring.sinks is not None:
        sinks = scoring.sinks.to(scores.dtype).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, sinks], dim=-1)
    shares = F.softmax(scores, dim=-1)[..., : k.shape[2]].to(v.dtype)
    return F.dropout(shares, scoring.dropout) @ v


def seen_keys(q: Tensor, k: Tensor, window: int | None) -> Tensor:
    """Bool [Q, S]: does the query (row) see the key (column)?"""
    n_queries, n_keys = q.shape[2], k.shape[2]
    now = torch.arange(n_keys - n_queries, n_keys, device=q.device)[:, None]
    key = torch.arange(n_keys, device=q.device)
    seen = key <= now
    return seen if window is None else seen & (key > now - window)
