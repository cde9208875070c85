"""The names under which a model's tensors are known outside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion


def named_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Yield (Hugging Face name, detached tensor) for all weights and persistent buffers.

    A tensor that several modules share, such as a tied head, comes once, under its first name.
    What transformers fused in memory (experts) is taken apart again, as the files have it.
    """
    yield from taken_apart(model, own_tensors(model)).items()


def own_tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return the same tensors as they are in memory, by their in-memory names."""
    seen: set[int] = set()
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            state[name] = tensor.detach()
    return state


def taken_apart(model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of the model as its files have them: their names, fused ones in parts."""
    apart: dict[str, Tensor] = revert_weight_conversion(model, dict(tensors))
    return apart
