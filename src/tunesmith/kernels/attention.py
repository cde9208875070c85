"""Causal attention over documents laid end to end: no document sees another one.

Dimensions: H query heads, K key and value heads, T tokens, L tokens of one document, D head size.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.varlen import varlen_attn

FLASH_DTYPES = (torch.bfloat16, torch.float16)
FLASH_MAX_HEAD_DIM = 256
# torch 2.11 takes fewer key heads without being told; later versions want to be told.
_GQA = "enable_gqa" in inspect.signature(varlen_attn).parameters


class Attention(Enum):
    """How packed documents are attended to."""

    FLASH = "torch's variable-length flash attention"
    SDPA = "scaled dot-product attention, one document at a time"
    MATH = "plain matrix products, one document at a time"


@dataclass(frozen=True, slots=True)
class AttentionChoice:
    """The way that was picked, and why."""

    way: Attention
    reason: str


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


def pick_attention(
    device: torch.device | str,
    dtype: torch.dtype,
    head_dim: int,
    *,
    scoring: Scoring,
    value_dim: int | None = None,
) -> AttentionChoice:
    """Return the fastest way that computes exactly this, with the reason in words.

    Reads the device's capability, nothing else; the answer never depends on the data.
    """
    if scoring.softcap is not None:
        return AttentionChoice(Attention.MATH, "scores are softly capped")
    if scoring.sinks is not None:
        return AttentionChoice(Attention.MATH, "heads have attention sinks")
    device = torch.device(device)
    if device.type != "cuda":
        return AttentionChoice(Attention.SDPA, f"the device is {device.type}")
    if dtype not in FLASH_DTYPES:
        return AttentionChoice(Attention.SDPA, f"the flash kernel does not multiply {dtype}")
    if head_dim % 8 or head_dim > FLASH_MAX_HEAD_DIM or (value_dim or head_dim) > head_dim:
        return AttentionChoice(Attention.SDPA, f"the flash kernel has no head size {head_dim}")
    if scoring.dropout:
        return AttentionChoice(Attention.SDPA, "the flash kernel's face has no dropout")
    if torch.cuda.get_device_capability(device) < (8, 0):
        return AttentionChoice(Attention.SDPA, "the flash kernel needs compute capability 8.0")
    return AttentionChoice(Attention.FLASH, "half precision on a GPU that has the kernel")


def varlen_attention(
    q_1HTD: Tensor,
    k_1KTD: Tensor,
    v_1KTD: Tensor,
    segments: Tensor,
    longest: int,
    *,
    scoring: Scoring,
) -> Tensor:
    """Return the attention output, [1, H, T, D], each document by itself.

    ``segments`` int32 [N + 1] are cumulative lengths from 0 to T, ``longest`` the longest document.
    On a CPU the result for a document is bit-equal to that for the document alone. The ways that
    loop over documents read ``segments`` on the host; flash does not.
    """
    choice = pick_attention(
        q_1HTD.device,
        q_1HTD.dtype,
        q_1HTD.shape[-1],
        scoring=scoring,
        value_dim=v_1KTD.shape[-1],
    )
    if choice.way is Attention.FLASH:
        return _flash(q_1HTD, k_1KTD, v_1KTD, segments, longest, scoring=scoring)
    attend = _causal if choice.way is Attention.SDPA else _attend
    groups = q_1HTD.shape[1] // k_1KTD.shape[1]
    outputs = []
    for start, end in pairwise(segments.tolist()):
        k, v = (t[:, :, start:end].repeat_interleave(groups, 1) for t in (k_1KTD, v_1KTD))
        q = q_1HTD[:, :, start:end]
        outputs.append(attend(q, k, v, scoring))
    return torch.cat(outputs, dim=2)


def masked_attention(
    q_BHQD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, mask: Tensor | None, *, scoring: Scoring
) -> Tensor:
    """Return attention under a given mask, [B, H, Q, D]; the last query stands at the last key.

    ``mask`` is bool (True: seen) or additive, broadcast over [B, H, Q, S], and already holds
    causality and window. Without it every row is one document. For evaluation and generation,
    where rows are padded or a cache holds earlier keys.
    """
    groups = q_BHQD.shape[1] // k_BKSD.shape[1]
    k, v = (t.repeat_interleave(groups, 1) for t in (k_BKSD, v_BKSD))
    if scoring.softcap is not None or scoring.sinks is not None:
        return _attend(q_BHQD, k, v, scoring, mask)
    seen = _seen(q_BHQD, k, scoring.window) if mask is None else mask
    return F.scaled_dot_product_attention(
        q_BHQD, k, v, attn_mask=seen, dropout_p=scoring.dropout, scale=scoring.scaling
    )


def _flash(
    q_1HTD: Tensor,
    k_1KTD: Tensor,
    v_1KTD: Tensor,
    segments: Tensor,
    longest: int,
    *,
    scoring: Scoring,
) -> Tensor:
    """The varlen kernel; nothing here waits for the device."""
    value_dim, head_dim = v_1KTD.shape[-1], q_1HTD.shape[-1]
    if value_dim < head_dim:
        v_1KTD = F.pad(v_1KTD, (0, head_dim - value_dim))
    # Left of a query the kernel counts keys without the query's own.
    window = scoring.window
    left = -1 if window is None or window >= longest else window - 1
    extra: dict[str, Any] = {"enable_gqa": q_1HTD.shape[1] != k_1KTD.shape[1]} if _GQA else {}
    q_THD, k_TKD, v_TKD = (t[0].transpose(0, 1).contiguous() for t in (q_1HTD, k_1KTD, v_1KTD))
    out_THD: Tensor = varlen_attn(  # type: ignore[assignment]  # only a tensor without return_aux
        q_THD,
        k_TKD,
        v_TKD,
        segments,
        segments,
        longest,
        longest,
        scale=scoring.scaling,
        window_size=(left, 0),
        **extra,
    )
    return out_THD[..., :value_dim].transpose(0, 1)[None]


def _causal(q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> Tensor:
    """One document, [1, H, L, D], equal heads; the fast kernels know causality but no window."""
    windowed = scoring.window is not None and scoring.window < q.shape[2]
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=_seen(q, k, scoring.window) if windowed else None,
        dropout_p=scoring.dropout,
        is_causal=not windowed,
        scale=scoring.scaling,
    )


def _attend(
    q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, mask: Tensor | None = None
) -> Tensor:
    """Plain products, with what no fast kernel does; the softmax is float32 or wider."""
    mask = _seen(q, k, scoring.window) if mask is None else mask
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


def _seen(q: Tensor, k: Tensor, window: int | None) -> Tensor:
    """Bool [Q, S]: does the query (row) see the key (column)?"""
    n_queries, n_keys = q.shape[2], k.shape[2]
    now = torch.arange(n_keys - n_queries, n_keys, device=q.device)[:, None]
    key = torch.arange(n_keys, device=q.device)
    seen = key <= now
    return seen if window is None else seen & (key > now - window)
