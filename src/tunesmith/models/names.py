"""The names under which a model's tensors are known outside."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion


def named_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Yield (Hugging Face name, detached tensor) for all weights and persistent buffers.

    A tensor that several modules share, such as a tied head, comes once, under its first name.
    What transformers fused in memory (experts) is taken apart again, as the files have it.
    """
    seen: set[int] = set()
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            state[name] = tensor.detach()
    yield from revert_weight_conversion(model, state).items()
