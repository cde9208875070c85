"""Causal attention over documents laid end to end: no document sees another one.

Dimensions: H query heads, K key and value heads, T tokens, L tokens of one document, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor
from torch.nn import functional as F

from tunesmith.kernels.documents import Scoring, attend, by_document, seen_keys
from tunesmith.kernels.varlen import (
    FLASH_CAPABILITY,
    FLASH_DTYPES,
    FLASH_MAX_HEAD_DIM,
    attend_packed,
)


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
    if torch.cuda.get_device_capability(device) < FLASH_CAPABILITY:
        return AttentionChoice(Attention.SDPA, "the flash kernel needs compute capability 8.0")
    return AttentionChoice(Attention.FLASH, "half precision on a GPU that has the kernel")


def varlen_attention(
    q_1HTD: Tensor,
    k_1KTD: Tensor,
    v_1KTD: Tensor,
    bounds: Tensor,
    extent: Tensor,
    *,
    scoring: Scoring,
) -> Tensor:
    """Return the attention output, [1, H, T, D], each document by itself.

    ``bounds`` int32 [at least N + 1] begins with the cumulative lengths from 0 to T, ``extent``
    (``kernels.varlen.extent_of``) says how many documents there are and how long the longest is.
    On a CPU the result for a document is bit-equal to that for the document alone. The ways that
    loop over documents read ``bounds`` on the host; flash does not.
    """
    if scoring.is_plain and (torch.compiler.is_compiling() or _is_flash(q_1HTD, v_1KTD, scoring)):
        return _as_operator(q_1HTD, k_1KTD, v_1KTD, (bounds, extent), scoring)
    out: Tensor = _looped(q_1HTD, k_1KTD, v_1KTD, (bounds, extent), scoring)
    return out


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _looped(
    q: Tensor, k: Tensor, v: Tensor, documents: tuple[Tensor, Tensor], scoring: Scoring
) -> Tensor:
    """Document after document: a compiled block stops here, since the lengths are data."""
    bounds, extent = documents
    return by_document(q, k, v, bounds[: int(extent[0]) + 1], scoring)


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
        return attend(q_BHQD, k, v, scoring, mask)
    seen = seen_keys(q_BHQD, k, scoring.window) if mask is None else mask
    return F.scaled_dot_product_attention(
        q_BHQD, k, v, attn_mask=seen, dropout_p=scoring.dropout, scale=scoring.scaling
    )


def _is_flash(q_1HTD: Tensor, v_1KTD: Tensor, scoring: Scoring) -> bool:
    choice = pick_attention(
        q_1HTD.device, q_1HTD.dtype, q_1HTD.shape[-1], scoring=scoring, value_dim=v_1KTD.shape[-1]
    )
    return choice.way is Attention.FLASH


def _as_operator(
    q_1HTD: Tensor,
    k_1KTD: Tensor,
    v_1KTD: Tensor,
    documents: tuple[Tensor, Tensor],
    scoring: Scoring,
) -> Tensor:
    """The operator; nothing here waits for the device."""
    value_dim, head_dim = v_1KTD.shape[-1], q_1HTD.shape[-1]
    if value_dim < head_dim:
        v_1KTD = F.pad(v_1KTD, (0, head_dim - value_dim))
    q_THD, k_TKD, v_TKD = (t[0].transpose(0, 1) for t in (q_1HTD, k_1KTD, v_1KTD))
    out_THD = attend_packed(
        q_THD, k_TKD, v_TKD, *documents, scaling=scoring.scaling, window=scoring.window
    )
    return out_THD[..., :value_dim].transpose(0, 1)[None]
