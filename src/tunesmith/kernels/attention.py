"""Causal attention over documents laid end to end: no document sees another one.

Dimensions: H query heads, K key and value heads, T tokens, L tokens of one document, D head size.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from enum import Enum

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


def pick_attention(
    device: torch.device | str,
    dtype: torch.dtype,
    head_dim: int,
    *,
    value_dim: int | None = None,
    softcap: float | None = None,
    sinks: bool = False,
    dropout: float = 0.0,
) -> AttentionChoice:
    """Return the fastest way that computes exactly this, with the reason in words.

    Reads the device's capability, nothing else; the answer never depends on the data.
    """
    if softcap is not None:
        return AttentionChoice(Attention.MATH, "scores are softly capped")
    if sinks:
        return AttentionChoice(Attention.MATH, "heads have attention sinks")
    device = torch.device(device)
    if device.type != "cuda":
        return AttentionChoice(Attention.SDPA, f"the device is {device.type}")
    if dtype not in FLASH_DTYPES:
        return AttentionChoice(Attention.SDPA, f"the flash kernel does not multiply {dtype}")
    if head_dim % 8 or head_dim > FLASH_MAX_HEAD_DIM or (value_dim or head_dim) > head_dim:
        return AttentionChoice(Attention.SDPA, f"the flash kernel has no head size {head_dim}")
    if dropout:
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
    scaling: float,
    window: int | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    sinks: Tensor | None = None,
) -> Tensor:
    """Return the attention output, [1, H, T, D], each document by itself.

    ``segments`` int32 [N + 1] are cumulative lengths from 0 to T, ``longest`` the longest document.
    ``window`` counts the keys that a query sees, itself included. ``sinks`` [H] are extra logits
    that take part in the softmax and carry no value. On a CPU the result for a document is
    bit-equal to that for the document alone. The ways that loop over documents read ``segments``
    on the host; flash does not.
    """
    choice = pick_attention(
        q_1HTD.device,
        q_1HTD.dtype,
        q_1HTD.shape[-1],
        value_dim=v_1KTD.shape[-1],
        softcap=softcap,
        sinks=sinks is not None,
        dropout=dropout,
    )
    if choice.way is Attention.FLASH:
        return _flash(q_1HTD, k_1KTD, v_1KTD, segments, longest, scaling=scaling, window=window)
    bounds = segments.tolist()
    rows = _Rows(scaling, window, softcap, dropout, sinks)
    attend = rows.sdpa if choice.way is Attention.SDPA else rows.math
    groups = q_1HTD.shape[1] // k_1KTD.shape[1]
    outputs = []
    for start, end in zip(bounds[:-1], bounds[1:], strict=True):
        if start == end:
            continue
        k, v = (t[:, :, start:end].repeat_interleave(groups, 1) for t in (k_1KTD, v_1KTD))
        outputs.append(attend(q_1HTD[:, :, start:end], k, v))
    return torch.cat(outputs, dim=2)


def masked_attention(
    q_BHQD: Tensor,
    k_BKSD: Tensor,
    v_BKSD: Tensor,
    mask: Tensor | None,
    *,
    scaling: float,
    window: int | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    sinks: Tensor | None = None,
) -> Tensor:
    """Return attention under a given mask, [B, H, Q, D]; the last query stands at the last key.

    ``mask`` is bool (True: seen) or additive, broadcast over [B, H, Q, S], and already holds
    causality and window. Without it every row is one document. For evaluation and generation,
    where rows are padded or a cache holds earlier keys.
    """
    groups = q_BHQD.shape[1] // k_BKSD.shape[1]
    k, v = (t.repeat_interleave(groups, 1) for t in (k_BKSD, v_BKSD))
    rows = _Rows(scaling, window, softcap, dropout, sinks)
    return rows.under(mask, q_BHQD, k, v)


def _flash(
    q_1HTD: Tensor,
    k_1KTD: Tensor,
    v_1KTD: Tensor,
    segments: Tensor,
    longest: int,
    *,
    scaling: float,
    window: int | None,
) -> Tensor:
    value_dim, head_dim = v_1KTD.shape[-1], q_1HTD.shape[-1]
    if value_dim < head_dim:
        v_1KTD = F.pad(v_1KTD, (0, head_dim - value_dim))
    # Left of a query the kernel counts keys without the query's own.
    left = -1 if window is None or window >= longest else window - 1
    extra = {"enable_gqa": q_1HTD.shape[1] != k_1KTD.shape[1]} if _GQA else {}
    q_THD, k_TKD, v_TKD = (t[0].transpose(0, 1).contiguous() for t in (q_1HTD, k_1KTD, v_1KTD))
    out_THD = varlen_attn(
        q_THD,
        k_TKD,
        v_TKD,
        segments,
        segments,
        longest,
        longest,
        scale=scaling,
        window_size=(left, 0),
        **extra,
    )
    return out_THD[..., :value_dim].transpose(0, 1)[None]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Attention inside one document; q, k and v are [1, H, L, D] with equal heads."""

    scaling: float
    window: int | None
    softcap: float | None
    dropout: float
    sinks: Tensor | None

    def sdpa(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """One causal document; the fast kernels know causality but no window."""
        windowed = self.window is not None and self.window < q.shape[2]
        return F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=self._seen(q, k) if windowed else None,
            dropout_p=self.dropout,
            is_causal=not windowed,
            scale=self.scaling,
        )

    def math(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """One causal document, with what only plain products can do."""
        return self.under(self._seen(q, k), q, k, v)

    def under(self, mask: Tensor | None, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Rows under a mask; the softmax is float32 or wider."""
        mask = self._seen(q, k) if mask is None else mask
        if self.softcap is None and self.sinks is None:
            return F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=self.dropout, scale=self.scaling
            )
        scores = (q @ k.transpose(2, 3)) * self.scaling
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        if mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        else:
            scores = scores + mask
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        if self.sinks is not None:
            sinks = self.sinks.to(scores.dtype).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
            scores = torch.cat([scores, sinks], dim=-1)
        shares = F.softmax(scores, dim=-1)[..., : k.shape[2]].to(v.dtype)
        return F.dropout(shares, self.dropout) @ v

    def _seen(self, q: Tensor, k: Tensor) -> Tensor:
        """Bool [Q, S]: does the query (row) see the key (column)?"""
        n_queries, n_keys = q.shape[2], k.shape[2]
        now = torch.arange(n_keys - n_queries, n_keys, device=q.device)[:, None]
        key = torch.arange(n_keys, device=q.device)
        seen = key <= now
        return seen if self.window is None else seen & (key > now - self.window)
