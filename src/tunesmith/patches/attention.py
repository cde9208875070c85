"""Our attention and its mask under one name in transformers' two registries.

``documents_given`` is the agreement between the caller and the mask: inside it, every attention
call gets the documents' bounds (``cu_seq_lens_q``, ``max_length_q``, the names that transformers
itself uses), so no mask is made. Outside, masks are made as for ``sdpa`` and obeyed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tunesmith.errors import PatchError
from tunesmith.kernels.attention import masked_attention, varlen_attention
from tunesmith.kernels.documents import Scoring
from tunesmith.kernels.varlen import extent_of
from tunesmith.patches.patch import Undo

NAME = "tunesmith_varlen"

_documents_given: ContextVar[bool] = ContextVar("documents_given", default=False)


@contextmanager
def documents_given() -> Iterator[None]:
    """Promise that attention is called with the bounds of its documents: no mask is needed."""
    token = _documents_given.set(True)
    # A name without a mask function gets no mask, and transformers then does not look for packed
    # positions either, which would wait for the device in every forward pass.
    masks = ALL_MASK_ATTENTION_FUNCTIONS._global_mapping
    mask = masks.pop(NAME, None)
    try:
        yield
    finally:
        if mask is not None:
            masks[NAME] = mask
        _documents_given.reset(token)


def register() -> Undo:
    """Put both functions into transformers' registries under ``tunesmith_varlen``.

    Raises:
        PatchError: something else already has the name.
    """
    if NAME in ALL_ATTENTION_FUNCTIONS and ALL_ATTENTION_FUNCTIONS[NAME] is not attend:
        raise PatchError(
            f"transformers already has an attention function called {NAME}",
            hint="find the package that registers it, and remove it",
            where="transformers.AttentionInterface",
        )
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, make_mask)
    return _unregister


def _unregister() -> None:
    for registry in (ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS):
        registry._global_mapping.pop(NAME, None)


def make_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """Return no mask where the documents' bounds are given, else the mask that ``sdpa`` gets."""
    if _documents_given.get():
        return None
    mask: Tensor | None = sdpa_mask(*args, **kwargs)
    return mask


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Return the attention output as transformers wants it, [B, T, H, D], and no weights.

    With ``cu_seq_lens_q`` (int32 [N + 1]) and ``max_length_q`` (int, or the ``extent`` of
    ``kernels.varlen``, with which the bounds may be filled up) each document is attended to by
    itself; without, the mask rules, and causality where there is none.
    """
    _refuse_the_unknown(module, kwargs)
    query, key, value = _as_autocast_has_it(query, key, value)
    scaling = kwargs.get("scaling")
    scoring = Scoring(
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        window=kwargs.get("sliding_window"),
        softcap=kwargs.get("softcap"),
        dropout=kwargs.get("dropout") or 0.0,
        sinks=kwargs.get("s_aux"),
    )
    bounds, extent = kwargs.get("cu_seq_lens_q"), kwargs.get("max_length_q")
    if bounds is None and _documents_given.get():
        raise PatchError(
            f"{type(module).__name__} did not hand the documents' bounds to its attention",
            hint="add its model type to DROPS_BOUNDS in models/facts.py: one row a document then",
            where=type(module).__name__,
        )
    if bounds is None:
        out = masked_attention(query, key, value, attention_mask, scoring=scoring)
    elif attention_mask is not None or extent is None or key.shape[2] != query.shape[2]:
        raise PatchError(
            "packed documents came with a mask or a cache, or without their longest length",
            hint="pass cu_seq_lens_q and max_length_q, and neither attention_mask nor a cache",
            where=type(module).__name__,
        )
    else:
        if isinstance(extent, int):  # transformers' own callers: as many documents as bounds
            extent = extent_of(bounds.numel() - 1, extent)
        out = varlen_attention(query, key, value, bounds, extent, scoring=scoring)
    return out.transpose(1, 2).contiguous(), None


def _as_autocast_has_it(*tensors: Tensor) -> list[Tensor]:
    """The tensors in autocast's dtype, as torch's own attention takes them.

    Under autocast rotary embeddings of fp32 weights leave fp32 queries beside bf16 values: no
    kernel takes such a pair, and the fp32 one is many times slower.
    """
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return list(tensors)
    dtype = torch.get_autocast_dtype(device)
    return [tensor.to(dtype) for tensor in tensors]


def _refuse_the_unknown(module: torch.nn.Module, kwargs: dict[str, Any]) -> None:
    """Arguments that would change the result and that we do not compute are an error."""
    causal = kwargs.get("is_causal")
    if causal is False or (causal is None and not getattr(module, "is_causal", True)):
        reason = "it is not causal"
    elif kwargs.get("position_bias") is not None:
        reason = "it adds a position bias to the scores"
    elif kwargs.get("indexer_mask") is not None or kwargs.get("topk_indices") is not None:
        reason = "it attends to chosen keys only"
    elif kwargs.get("output_attentions"):
        reason = "its attention weights were asked for"
    else:
        return
    raise PatchError(
        f"{type(module).__name__} cannot use {NAME}: {reason}",
        hint="set attn_implementation: sdpa, or eager, and sample_packing: false",
        where=type(module).__name__,
    )
